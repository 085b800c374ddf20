"""Whether the runs of an experiment gave the same tokens, and if not, how near a tie the first difference was.

Ours. In float64 two correct ways of computing give the same greedy tokens; in narrower types they may part where the
two best logits almost tie, and everything behind that token is another text. So a run's first difference is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.memory.pool import KVPool

__all__ = ["Difference", "describe_differences", "equivalent", "first_difference"]

# Of the logits' spread, between its two best: below it two correct ways of computing may pick different tokens. In
# narrow types a batch of another shape rounds otherwise, by some units in the last place.
NEAR_TIE = 1e-4
NEAR_TIE_ULPS = 4


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a run's tokens first leave those of the first run.

    Attributes:
        run, base: names of the two runs.
        conversation, turn, position: of the token.
        token, base_token: what each of them chose.
        gap: between the two best logits there.
        spread: between the best and the worst.
        ulp: of the model's type at 1.
    """

    run: str
    base: str
    conversation: int
    turn: int
    position: int
    token: int
    base_token: int
    gap: float
    spread: float
    ulp: float

    @property
    def is_near_tie(self) -> bool:
        """Whether two correct ways of computing may differ here."""
        return self.gap < max(NEAR_TIE, NEAR_TIE_ULPS * self.ulp) * self.spread

    def __str__(self) -> str:
        place = f"conversation {self.conversation}, turn {self.turn}, token {self.position}"
        verdict = "a near tie" if self.is_near_tie else "NOT a near tie"
        return (
            f"{self.run} differs from {self.base} at {place}: {self.token} for {self.base_token}; "
            f"top-2 logit gap {self.gap:.3g} of a spread of {self.spread:.3g}: {verdict}"
        )


def equivalent(experiment: Experiment, bed: ModelBed) -> bool:
    """Whether no finished run differs from the first one by more than a near tie."""
    differences = [first_difference(experiment, bed, name) for name in experiment.turn_tokens]
    return all(difference is None or difference.is_near_tie for difference in differences)


def describe_differences(experiment: Experiment, bed: ModelBed) -> list[str]:
    """A line for each run whose tokens differ from the first run's."""
    found = [first_difference(experiment, bed, name) for name in experiment.turn_tokens]
    return [str(difference) for difference in found if difference is not None]


def first_difference(experiment: Experiment, bed: ModelBed, name: str) -> Difference | None:
    """Where a finished run's tokens first leave those of the first run; None if they do not."""
    base_name, base = next(iter(experiment.turn_tokens.items()))
    other = experiment.turn_tokens[name]
    for key in sorted(base):
        for position, (ours, theirs) in enumerate(zip(base[key], other[key], strict=True)):
            if ours != theirs:
                gap, spread = _logit_gap(experiment, bed, base, key, position)
                ulp = torch.finfo(bed.model.dtype).eps
                return Difference(name, base_name, *key, position, theirs, ours, gap, spread, ulp)
    return None


def _logit_gap(
    experiment: Experiment,
    bed: ModelBed,
    tokens: Mapping[tuple[int, int], list[int]],
    key: tuple[int, int],
    position: int,
) -> tuple[float, float]:
    """Top-2 gap and spread of the logits that chose a token, computed anew from the whole context at once."""
    conversation, last_turn = key
    context: list[int] = []
    for turn in range(last_turn + 1):
        context += experiment.workload.prompt_tokens(conversation, turn, bed.model.vocab_size)
        context += tokens[conversation, turn] if turn < last_turn else tokens[key][:position]
    layout = bed.spec.layout
    pool = KVPool(layout, layout.blocks_for(len(context)), bed.model.model.device)
    table = np.arange(pool.num_blocks, dtype=np.int32)
    entry = BatchEntry(0, 0, len(context), samples=True, source=KnownTokens(context, table))
    logits = ModelExecutor(bed.model.model, pool).logits([entry])[0]
    top = logits.double().topk(2).values
    return float(top[0] - top[1]), float(logits.double().max() - logits.double().min())

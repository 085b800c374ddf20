"""A token budget from a target of the time between tokens: the typical batch, and what is derived from its times.

Source: Sarathi-Serve (Agrawal et al., OSDI 2024), section 4.3. Ours: what is typical of a workload. All requests have
half the mean context of a whole conversation; as many decode as the device pool holds, or as there are, and the rest of
the budget is a piece of a prompt behind as much context. A pool that is not full leaves the iteration shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import Workload
from fastswitch.sched import token_budget_for

__all__ = ["MOST_TOKENS", "DerivedBudget", "TypicalBatch", "derive_budget"]

MOST_TOKENS = 8192  # of a budget: what prompts get at a time where nothing is cut


@dataclass(frozen=True, slots=True)
class TypicalBatch:
    """What runs beside a piece of a prompt.

    Attributes:
        num_decodes: requests that get a token each.
        context: tokens before it, of each of them and of the prompt's piece.
    """

    num_decodes: int
    context: int

    @classmethod
    def of(cls, workload: Workload, device_tokens: int) -> TypicalBatch:
        """Of a workload on a pool of so many tokens."""
        context = max(1, round((workload.input_tokens + workload.output_tokens) / len(workload) / 2))
        return cls(max(1, min(len(workload), device_tokens // context)), context)

    @property
    def least_tokens(self) -> int:
        """Of a budget that stalls neither a decode nor all prompts."""
        return self.num_decodes + 1

    def chunks(self, num_tokens: int) -> list[tuple[int, int, bool]]:
        """The batch of a budget of at least ``least_tokens``: (tokens with KV, tokens to compute, samples) each."""
        decodes = [(self.context, 1, True)] * self.num_decodes
        return [*decodes, (self.context, num_tokens - self.num_decodes, True)]


@dataclass(frozen=True, slots=True)
class DerivedBudget:
    """What a token budget was derived from.

    Attributes:
        tbt_target_s: the target.
        batch: the batch that was timed.
        timed_by: ``roofline`` or ``measured``.
        iteration_s: of the budget.
        iterations: (num_tokens, seconds) of each budget that was tried, smallest first.
    """

    tbt_target_s: float
    batch: TypicalBatch
    timed_by: str
    iteration_s: float
    iterations: tuple[tuple[int, float], ...]


def derive_budget(
    target_ms: float, batch: TypicalBatch, seconds: Callable[[int], float], *, timed_by: str, most: int = MOST_TOKENS
) -> tuple[int, DerivedBudget]:
    """The largest budget up to ``most`` whose iteration stays within the target, and what it comes from.

    Args:
        target_ms: as on the command line.
        batch: what ``seconds`` times beside a piece of a prompt.
        seconds: num_tokens |-> seconds of an iteration; asked once each.
        timed_by: ``roofline`` or ``measured``.
        most: the largest budget that can be timed.

    Raises:
        UsageError: if the smallest iteration that stalls nobody takes longer.
    """
    tried: dict[int, float] = {}

    @cache
    def once(num_tokens: int) -> float:
        tried[num_tokens] = seconds(num_tokens)
        return tried[num_tokens]

    target_s, least = target_ms * 1e-3, batch.least_tokens
    if (shortest_ms := once(least) * 1e3) > target_ms:
        raise UsageError(
            f"--tbt-target {target_ms:g} is too short: {batch.num_decodes} decodes, as many as the pool holds, and a "
            f"token of a prompt take {shortest_ms:.1f} ms ({timed_by}): give more, or lower --device-tokens"
        )
    budget = token_budget_for(target_s, once, least=least, most=max(least, most))
    return budget, DerivedBudget(target_s, batch, timed_by, tried[budget], tuple(sorted(tried.items())))

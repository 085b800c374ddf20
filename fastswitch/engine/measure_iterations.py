"""How long a model's iterations take here, by their number of tokens: measured before the runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.measure import median_s
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.tbt_target import TypicalBatch
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["iteration_timer", "most_tokens"]

REPEATS = 5


def most_tokens(batch: TypicalBatch, max_context: int, most: int) -> int:
    """The largest iteration of a typical batch, up to ``most``, that a model of so many positions can compute."""
    return min(most, batch.num_decodes + max_context - batch.context)


def iteration_timer(model: LoadedModel, layout: KVLayout, batch: TypicalBatch, most: int) -> Callable[[int], float]:
    """num_tokens |-> median seconds of such an iteration, after a warm-up; it holds a pool until it is forgotten.

    Args:
        model: on the device that the pool goes to.
        layout: of the pool.
        batch: the decodes beside the piece of a prompt.
        most: tokens of the largest iteration that will be asked about.
    """
    context = batch.context
    decode_blocks = layout.blocks_for(context + 1)
    prompt_blocks = layout.blocks_for(context + most - batch.num_decodes)
    pool = KVPool(layout, batch.num_decodes * decode_blocks + prompt_blocks, model.model.device)
    pool.fill(np.arange(pool.num_blocks), 0.0)  # unwritten slots would make it compute NaN
    executor = ModelExecutor(model.model, pool)
    ends = np.cumsum([decode_blocks] * batch.num_decodes + [prompt_blocks])
    tables = [np.arange(end - n, end, dtype=np.int32) for end, n in zip(ends, np.diff(ends, prepend=0), strict=True)]
    tokens = [token % model.vocab_size for token in range(most)]

    def seconds(num_tokens: int) -> float:
        entries = [
            BatchEntry(i, start, n, samples, KnownTokens(tokens[:n], table, first=start))
            for i, ((start, n, samples), table) in enumerate(zip(batch.chunks(num_tokens), tables, strict=True))
        ]
        return median_s(lambda: executor.run(entries), REPEATS)

    return seconds

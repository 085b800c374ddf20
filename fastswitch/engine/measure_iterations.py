"""How long a model's iterations take here: batches by their shape alone, measured before the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.measure import median_s
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.tbt_target import Chunk
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["batch_timer", "blocks_of"]

REPEATS = 5


def blocks_of(layout: KVLayout, batches: Iterable[Sequence[Chunk]]) -> int:
    """Blocks that each of these batches has room in."""
    return max(sum(layout.blocks_for(start + n) for start, n, _ in batch) for batch in batches)


def batch_timer(model: LoadedModel, layout: KVLayout, num_blocks: int) -> Callable[[Sequence[Chunk]], float]:
    """Batch |-> median seconds of its iteration, after a warm-up. Holds a pool until it is forgotten.

    A batch is, for each request, the tokens with KV, the tokens to compute, and whether the last one is sampled from;
    one at least must be, since on a GPU it is the sampled token that is waited for.

    Args:
        model: on the device that the pool goes to.
        layout: of the pool.
        num_blocks: of the pool: as many as the largest batch needs.
    """
    pool = KVPool(layout, num_blocks, model.model.device)
    pool.fill(np.arange(num_blocks), 0.0)  # unwritten slots would make it compute NaN
    executor = ModelExecutor(model.model, pool)

    def seconds(batch: Sequence[Chunk]) -> float:
        entries, used = [], 0
        for i, (start, n, samples) in enumerate(batch):
            table = np.arange(used, used + layout.blocks_for(start + n), dtype=np.int32)
            used += len(table)
            tokens = [token % model.vocab_size for token in range(n)]
            entries.append(BatchEntry(i, start, n, samples, KnownTokens(tokens, table, first=start)))
        return median_s(lambda: executor.run(entries), REPEATS)

    return seconds

"""An iteration of decodes that can be repeated at will, on a pool of its own, computed by one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import torch

from fastswitch.engine import BatchEntry
from fastswitch.engine.executor import KnownTokens
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["Decodes", "one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on the caller's thread alone; copies on a CPU are numpy's, which has one thread anyway."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Decodes:
    """The same iteration again and again: each request computes one token behind its context.

    Args:
        model: computes.
        layout: of the pool.
        num_requests: in the iteration.
        context: tokens that each has already.
    """

    def __init__(self, model: LoadedModel, layout: KVLayout, num_requests: int, context: int) -> None:
        blocks_each = layout.blocks_for(context + 1)
        pool = KVPool(layout, blocks_each * num_requests)
        pool.fill(np.arange(pool.num_blocks), 0.0)  # unwritten slots would make it decode NaN
        self._executor = ModelExecutor(model.model, pool)
        tables = np.arange(pool.num_blocks, dtype=np.int32).reshape(num_requests, blocks_each)
        tokens = [KnownTokens([index], table, first=context) for index, table in enumerate(tables)]
        self._batch = [BatchEntry(index, context, 1, samples=True, source=token) for index, token in enumerate(tokens)]
        self.num_requests, self.context = num_requests, context

    def iterate(self) -> None:
        """One iteration."""
        self._executor.run(self._batch)

    def seconds(self, iterations: int) -> float:
        """Of so many, alone."""
        start = time.perf_counter()
        for _ in range(iterations):
            self.iterate()
        return time.perf_counter() - start

"""What a swap costs the engine's own thread: one ``submit`` and one ``landed`` that reports a job.

The jobs in flight stand still for as long as the clock runs, so that nobody copies meanwhile and how many there are is
known; the job that ``landed`` reports has ended before. What is left is the coordinator's bookkeeping, and waking the
copy thread.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from fastswitch.engine import SwapCoordinator
from fastswitch.kernels import TransferCount, per_run
from fastswitch.kernels._planes import Planes
from fastswitch.memory import KVLayout, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["IN_FLIGHT", "RESIDENTS", "SwapCost"]

IN_FLIGHT = (0, 1, 8)
RESIDENTS = 64  # requests in the iteration that the cost is a share of
HELD, FREE = 0, 1  # the first source block of a job that stands still, and of one that does not
PATIENCE_S = 60.0


class SwapCost:
    """A coordinator some of whose jobs stand still.

    Args:
        layout: of the pools, which are small.
    """

    def __init__(self, layout: KVLayout) -> None:
        pools = [KVPool(layout, 2) for _ in range(2)]
        for pool in pools:
            pool.fill(range(2), 0.0)
        self._gate = threading.Event()
        self._swaps = SwapCoordinator(*pools, transfer=self._copy)
        self._next_id = 0
        self._held = self._job(SwapDirection.SWAP_OUT, HELD)

    def prepare(self, num_in_flight: int) -> None:
        """So many stand still, one has ended and was not reported, and a job is ready to be submitted."""
        self._drain()
        for _ in range(num_in_flight):
            self._swaps.submit(self._job(SwapDirection.SWAP_OUT, HELD))
        self._swaps.submit(self._job(SwapDirection.SWAP_IN, FREE)).result(PATIENCE_S)
        self._held = self._job(SwapDirection.SWAP_OUT, HELD)

    def once(self) -> int:
        """Submit one, ask what has landed; how many had."""
        self._swaps.submit(self._held)
        return len(self._swaps.landed())

    def seconds(self, num_in_flight: int) -> float:
        """Of `once`, prepared."""
        self.prepare(num_in_flight)
        start = time.perf_counter()
        num_landed = self.once()
        seconds = time.perf_counter() - start
        assert num_landed == 1
        return seconds

    def close(self) -> None:
        """End the threads."""
        self._gate.set()
        self._swaps.close()

    def _drain(self) -> None:
        """Let go whoever stands still, see all land, and hold those to come."""
        self._gate.set()
        last = self._swaps.submit(self._job(SwapDirection.SWAP_OUT, FREE))
        last.result(PATIENCE_S)
        self._swaps.landed()
        self._gate.clear()

    def _job(self, direction: SwapDirection, first: int) -> SwapJob:
        self._next_id += 1
        return SwapJob(self._next_id, 0, direction, (), np.array([[first, first, 1]], np.int64))

    def _copy(self, src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
        if runs[0, 0] == HELD:
            assert self._gate.wait(PATIENCE_S)
        return per_run(src_planes, dst_planes, runs)

"""Model and copies side by side without a pause: how fast each is, relative to alone.

A *way* is an order of the pools and a transfer. Jobs are swap-outs of 500 tokens in four runs, in other places each
time; all are queued in front of a gate before the clock starts, so that the model's thread does nothing but compute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
from tiny_decodes import Decodes

from fastswitch.engine import RealClock, SwapCoordinator, SwapReport
from fastswitch.engine.measure import SWAP_TOKENS
from fastswitch.engine.streams import Event, HostStreams, Stream
from fastswitch.memory import KVLayout, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["UnbrokenCopies"]

RUNS_A_JOB = 4
PLACES = 4  # jobs that a pool has room for, so that no cache holds them
COPYING_S = 0.4  # of one measurement alone, about
PATIENCE_S = 60.0


class _Gated:
    """A stream whose work starts when a gate is open."""

    def __init__(self, stream: Stream, gate: threading.Event) -> None:
        self._stream, self._gate = stream, gate
        self.run, self.record = stream.run, stream.record

    def wait(self, event: Event) -> None:
        assert self._gate.wait(PATIENCE_S)
        self._stream.wait(event)


class UnbrokenCopies:
    """The copies of one way.

    Args:
        layout: of the pools; ``order`` takes its order's place.
        order: ``layer_major`` or ``block_major``.
        way: as `SwapCoordinator` takes it.
        decodes: the iteration.
    """

    def __init__(self, layout: KVLayout, order: str, way: str, decodes: Decodes) -> None:
        ordered = replace(layout, order=order)
        self._runs = scattered_runs(layout.blocks_for(SWAP_TOKENS), RUNS_A_JOB, PLACES)
        num_blocks = max(int((runs[:, 0] + runs[:, 2]).max()) for runs in self._runs)
        pools = [KVPool(ordered, num_blocks) for _ in range(2)]
        for pool in pools:
            pool.fill(np.arange(num_blocks), 0.0)  # the first touch of memory costs extra
        clock, self._gate = RealClock(), threading.Event()
        streams = HostStreams(clock)
        streams.swap_out = _Gated(streams.swap_out, self._gate)
        self._swaps = SwapCoordinator(*pools, transfer=way, clock=clock, streams=streams)
        self._decodes = decodes
        self._next_id = 0
        self._num_jobs = len(self._runs)
        job_s = self._copied(self._wait)[1] / self._num_jobs
        self._num_jobs = max(self._num_jobs, round(COPYING_S / job_s))

    def round(self) -> dict[str, float | None]:
        """The model's and the copies' speed beside each other, relative to alone; and gigabytes a second alone."""
        copies_alone, copying_s = self._copied(self._wait)
        half = max(2, round(copying_s / self._decodes.seconds(1) / 2))
        before_s = self._decodes.seconds(half)
        model_beside = 0.0

        def compute(last: Future[SwapReport]) -> None:
            nonlocal model_beside
            model_beside = iterations_a_second(self._decodes.iterate, last.done)

        copies_beside, _ = self._copied(compute)
        model_alone = 2 * half / (before_s + self._decodes.seconds(half))
        ratios = {"model": model_beside / model_alone, "copy": copies_beside / copies_alone}
        return {**ratios, "alone_gbps": copies_alone / 1e9}

    def close(self) -> None:
        """End the threads."""
        self._gate.set()
        self._swaps.close()

    def _copied(self, meanwhile: Callable[[Future[SwapReport]], None]) -> tuple[float, float]:
        """Bytes a second of all jobs, during ``meanwhile``, which ends when the last one has; and their seconds."""
        self._gate.clear()
        futures = [self._swaps.submit(self._job()) for _ in range(self._num_jobs)]
        self._gate.set()
        meanwhile(futures[-1])
        reports = [future.result(PATIENCE_S) for future in futures]
        self._swaps.landed()
        seconds = reports[-1].copy_done.seconds_since(reports[0].copy_start)
        return sum(report.num_bytes for report in reports) / seconds, seconds

    @staticmethod
    def _wait(last: Future[SwapReport]) -> None:
        last.result(PATIENCE_S)

    def _job(self) -> SwapJob:
        self._next_id += 1
        return SwapJob(self._next_id, 0, SwapDirection.SWAP_OUT, (), self._runs[self._next_id % len(self._runs)])


def iterations_a_second(iterate: Callable[[], None], over: Callable[[], bool]) -> float:
    """Of those that ended before it was ``over``; of the first one if none did."""
    start = end = time.perf_counter()
    count = 0
    while True:
        iterate()
        if over():
            break
        end = time.perf_counter()
        count += 1
    return count / (end - start) if count else 1 / (time.perf_counter() - start)


def scattered_runs(num_blocks: int, num_runs: int, places: int) -> Sequence[np.ndarray]:
    """Runs of as many jobs as there are places: each falls into equal runs, apart on both sides, and none overlap.

    >>> [runs.tolist() for runs in scattered_runs(num_blocks=5, num_runs=2, places=2)]
    [[[0, 0, 3], [8, 8, 2]], [[4, 4, 3], [12, 12, 2]]]
    """
    lengths = [len(part) for part in np.array_split(np.arange(num_blocks), num_runs)]
    stride = lengths[0] + 1  # a block between neighbours: nothing coalesces
    jobs = []
    for place in range(places):
        starts = [(index * places + place) * stride for index in range(num_runs)]
        jobs.append(np.array([[start, start, n] for start, n in zip(starts, lengths, strict=True)], np.int64))
    return jobs

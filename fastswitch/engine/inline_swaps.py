"""Synchronous swaps: the engine's own thread copies, and stands still meanwhile.

Paper: what vLLM 0.3 does, the base of FastSwitch's evaluation. Ours: the same protocol as the threads', so that a run
differs in this alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.copier import Copier
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.streams import Streams, streams_for
from fastswitch.engine.swaps import SwapReport
from fastswitch.kernels import Transfer
from fastswitch.memory import SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["InlineSwaps"]


class InlineSwaps:
    """A job has landed when ``submit`` returns, and its seconds are stall.

    Args:
        device_pool: the device's KV.
        host_pool: the host's KV; in the other order only `TRANSPOSING` ways go.
        transfer: a key of ``fastswitch.kernels.TRANSFERS``; ``"chosen"``, for each job the cheapest here; or a
            `Transfer` of one's own.
        link: what a job costs on an emulated link; None where the link is real.
        clock: time, shared with the engine.
        streams: where work is enqueued; by default those of the device pool's device.

    Raises:
        ValueError: if the pools do not fit together or the transfer is unknown.
    """

    def __init__(
        self,
        device_pool: KVPool,
        host_pool: KVPool,
        *,
        transfer: str | Transfer = "per_run",
        link: EmulatedLink | None = None,
        clock: Clock | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._clock = clock or RealClock()
        self._streams = streams or streams_for(device_pool.device, self._clock)
        self._copier = Copier(device_pool, host_pool, transfer, link, self._clock)
        self._landed: list[SwapReport] = []
        self._stall_s = 0.0

    @property
    def stall_s(self) -> float:
        """Seconds spent in ``submit`` so far."""
        return self._stall_s

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        """Copy the job and wait for it. A copy that raises is reported, not raised."""
        start = self._clock.now()
        submission = self._copier.submission(job, self._streams.compute)
        future: Future[SwapReport] = Future()
        try:
            report = self._copier.copy(submission, self._copier.stream(self._streams, job))
            if report.copy_done is not None:
                self._streams.compute.wait(report.copy_done)
                report.copy_done.synchronize()
            future.set_result(report)
        except Exception as error:
            report = self._copier.failure(submission, error)
            future.set_exception(error)
        self._landed.append(report)
        self._stall_s += self._clock.now() - start
        return future

    def landed(self) -> list[SwapReport]:
        """Jobs submitted since the last call."""
        landed, self._landed = self._landed, []
        return landed

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Nothing: every job has landed."""

    def wait_any(self, timeout_s: float | None) -> None:
        """Nothing: no job is ever under way."""

    def close(self) -> None:
        """Nothing to end."""

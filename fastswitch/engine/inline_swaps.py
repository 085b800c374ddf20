"""Synchronous swaps: the engine's own thread copies, and stands still meanwhile.

Paper: what vLLM 0.3 does, the base of FastSwitch's evaluation. Ours: the same protocol as the threads', so that a run
differs in this alone.
"""

from __future__ import annotations

from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.copier import Copier
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.streams import Streams, streams_for
from fastswitch.engine.swaps import SwapReport
from fastswitch.engine.synchronous_swaps import SynchronousSwaps
from fastswitch.kernels import Transfer
from fastswitch.memory import SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["InlineSwaps"]


class InlineSwaps(SynchronousSwaps):
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
        clock = clock or RealClock()
        super().__init__(self._copy_now, clock)
        self._streams = streams or streams_for(device_pool.device, clock)
        self._copier = Copier(device_pool, host_pool, transfer, link, clock)

    def _copy_now(self, job: SwapJob) -> SwapReport:
        submission = self._copier.submission(job, self._streams.compute)
        try:
            report = self._copier.copy(submission, self._copier.stream(self._streams, job.direction))
            if report.copy_done is not None:
                self._streams.compute.wait(report.copy_done)
                report.copy_done.synchronize()
        except Exception as error:
            return self._copier.failure(submission, error)
        return report

"""One job's copies on one stream, with the events that make them safe.

Ours; the order is the point. Two published engines record the landing event before the copies it stands for, another
copied KV that was not yet written in 150 of 150 runs. So:

1. the copy stream waits for the event that the submitter recorded on its compute stream: what is read has been written,
   and what is overwritten has been read;
2. the copies are enqueued;
3. the landing event is recorded after them.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastswitch.engine.clock import Clock
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.streams import Event, Stream, Streams
from fastswitch.engine.swaps import SwapReport
from fastswitch.engine.ways import way_of
from fastswitch.kernels import Transfer
from fastswitch.memory import SwapDirection, SwapJob, cut_runs
from fastswitch.memory.pool import KVPool

__all__ = ["Copier", "Submission"]


@dataclass(frozen=True, slots=True)
class Submission:
    """A job with what was true when it was submitted.

    Attributes:
        job: what to copy.
        compute_done: the submitter's compute stream had done this much.
        submitted_s: when.
    """

    job: SwapJob
    compute_done: Event
    submitted_s: float


class Copier:
    """Copies jobs between two pools.

    Args:
        device_pool: the device's memory.
        host_pool: the host's; its blocks differ in their order at most.
        transfer: how bytes cross: a key of ``fastswitch.kernels.TRANSFERS``; ``"chosen"``, for each job the cheapest;
            or a `Transfer` of one's own.
        link: what a job costs on an emulated link; None where the link is real.
        clock: time.

    Raises:
        ValueError: if the way is unknown, not possible on the device, or not between these pools.
    """

    def __init__(
        self,
        device_pool: KVPool,
        host_pool: KVPool,
        transfer: str | Transfer,
        link: EmulatedLink | None,
        clock: Clock,
    ) -> None:
        self._way_of = way_of(transfer, device_pool, host_pool, link)
        self._planes = {SwapDirection.SWAP_OUT: (device_pool.planes, host_pool.planes)}
        self._planes[SwapDirection.SWAP_IN] = (host_pool.planes, device_pool.planes)
        # the host's pieces, as arguments of `cut_runs`
        self._edges = {SwapDirection.SWAP_OUT: {"dst_every": host_pool.blocks_per_piece}}
        self._edges[SwapDirection.SWAP_IN] = {"src_every": host_pool.blocks_per_piece}
        self._layout = device_pool.layout
        self._link = link
        self._clock = clock

    def stream(self, streams: Streams, direction: SwapDirection) -> Stream:
        """The copy stream of a direction."""
        return streams.swap_out if direction is SwapDirection.SWAP_OUT else streams.swap_in

    def submission(self, job: SwapJob, compute: Stream) -> Submission:
        """Note the present of the caller's compute stream; call it on the caller's thread."""
        return Submission(job, compute.record(), self._clock.now())

    def copy(self, submission: Submission, stream: Stream) -> SwapReport:
        """Enqueue the job's copies on ``stream``; returns when they are enqueued (on a CPU: done)."""
        job = submission.job
        source, destination = self._planes[job.direction]
        runs = cut_runs(job.runs, **self._edges[job.direction])
        way, transfer = self._way_of(job.direction, runs)
        queue_s = self._clock.now() - submission.submitted_s
        stream.wait(submission.compute_done)
        copy_start = stream.record()
        try:
            count = stream.run(lambda: transfer(source, destination, runs))
        except BaseException:
            stream.record().synchronize()
            raise
        if self._link is not None:
            layout = self._layout
            self._clock.sleep(self._link.cost_s(way, runs, layout.pieces_per_block, layout.piece_bytes))
        copy_done = stream.record()
        events, submitted_s = (copy_start, copy_done), submission.submitted_s
        return SwapReport(
            job, way, count.num_bytes, count.copies, count.calls, queue_s, *events, submitted_s=submitted_s
        )

    def failure(self, submission: Submission, error: BaseException) -> SwapReport:
        """The report of a job that did not make it."""
        return SwapReport(submission.job, "failed", error=error)

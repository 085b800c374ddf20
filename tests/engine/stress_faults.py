"""Six mistakes that engines of this kind have made, each as small as it can be written: the stress must find each.

The first two are a copier's, written as copy streams that do one thing in the wrong order or not at all.
"""

from __future__ import annotations

from fastswitch.engine import SwapCoordinator
from fastswitch.memory import KVCacheManager

__all__ = [
    "copy_before_those_it_comes_after",
    "event_before_copy",
    "free_before_landing",
    "no_fence_before_copy",
    "one_block_short",
    "wait_on_the_wrong_job",
]


class _EventBeforeCopy:
    """A copy stream whose landing event is recorded before the copies that it stands for."""

    def __init__(self, stream):
        self._stream = stream
        self._early = None

    def wait(self, event):
        self._stream.wait(event)

    def run(self, work):
        self._early = self._stream.record()
        return self._stream.run(work)

    def record(self):
        event, self._early = self._early or self._stream.record(), None
        return event


class _NoFenceBeforeCopy(_EventBeforeCopy):
    """A copy stream that does not wait for what the compute stream was about to write and to read."""

    def wait(self, event):
        pass

    def run(self, work):
        return self._stream.run(work)


class _WithCopyStreams:
    """Streams whose copy streams are wrapped."""

    def __init__(self, streams, wrap):
        self.compute = streams.compute
        self.swap_out, self.swap_in = wrap(streams.swap_out), wrap(streams.swap_in)


class _WaitsForTheOldest(SwapCoordinator):
    """Waits for the job that was submitted first of all under way, instead of those that it was asked for."""

    def wait(self, jobs):
        super().wait([next(iter(self._flights.values())).submission.job for _ in jobs])


class _OvertakesOthers(SwapCoordinator):
    """Starts the copies of a job before those that it comes after are over."""

    def __init__(self, *pools, **options):
        super().__init__(*pools, **options)
        for lane in self._lanes.values():
            lane._let_others_go_first = lambda flight: None


class _FreesAtSubmit(KVCacheManager):
    """Gives back a victim's device blocks when the copy begins, instead of when it has landed."""

    def begin_swap_out(self, request_id):
        job = super().begin_swap_out(request_id)
        own = self.segment_ids(request_id)[-1]  # what others read too stays
        if job is not None and job.ranges[-1].segment_id == own:
            self.device.cut(own, 0)
        return job


class _CopiesOneBlockLess(KVCacheManager):
    """Leaves the last block out of an increment."""

    def begin_swap_out(self, request_id):
        job = super().begin_swap_out(request_id)
        if job is not None and job.num_blocks > 1 and any(entry.start_token for entry in job.ranges):
            runs = job.runs.copy()
            runs[-1, 2] -= 1
            object.__setattr__(job, "runs", runs[runs[:, 2] > 0])
        return job


def event_before_copy(*pools, streams, **options):
    return SwapCoordinator(*pools, **options, streams=_WithCopyStreams(streams, _EventBeforeCopy))


def no_fence_before_copy(*pools, streams, **options):
    return SwapCoordinator(*pools, **options, streams=_WithCopyStreams(streams, _NoFenceBeforeCopy))


copy_before_those_it_comes_after = _OvertakesOthers
wait_on_the_wrong_job = _WaitsForTheOldest
free_before_landing = _FreesAtSubmit
one_block_short = _CopiesOneBlockLess

"""The copies under way: which blocks each one moves, and which segments it holds up.

Ours. A job begins when its destination has room, and ends once, landed or aborted. It takes along all segments of its
request, so that a request is never half on its way; a segment that lacks nothing has an empty range.
Invariants, asserted by `JobBook.check_invariants`:
1. A segment names a job if and only if that job is under way and takes it along.
2. While a job is under way its source is right up to the end of its range, and its destination holds room up to there.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from fastswitch.memory.coalesce import coalesce
from fastswitch.memory.segment import Segment
from fastswitch.memory.swap_job import SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.tier import Tier

__all__ = ["JobBook"]


class JobBook:
    """Begins and ends jobs between two tiers.

    Args:
        device: the device's copies.
        host: the host's copies.
    """

    def __init__(self, device: Tier, host: Tier) -> None:
        self._tiers = {SwapDirection.SWAP_OUT: (device, host), SwapDirection.SWAP_IN: (host, device)}
        self._under_way: dict[int, tuple[SwapJob, tuple[Segment, ...]]] = {}  # job_id |-> job, what it takes along
        self._job_ids = itertools.count()

    def destination(self, direction: SwapDirection) -> Tier:
        """Where the bytes go."""
        return self._tiers[direction][1]

    def lacking(self, segment: Segment, direction: SwapDirection) -> range:
        """Indices of the segment's blocks that the destination lacks, whole or in part."""
        source, destination = self._tiers[direction]
        start, end = destination.valid_len(segment.segment_id), source.valid_len(segment.segment_id)
        if end <= start:
            return range(0)
        # A partly filled last block that has grown since is copied again, whole.
        return range(start // source.block_size, -(-end // source.block_size))

    def begin(self, request_id: Hashable, segments: Sequence[Segment], direction: SwapDirection) -> SwapJob | None:
        """A job for what the destination lacks, for which it must hold room already; None if it lacks nothing."""
        source, destination = self._tiers[direction]
        indices = [self.lacking(segment, direction) for segment in segments]
        if not any(indices):
            return None
        ranges, runs = [], []
        for segment, blocks in zip(segments, indices, strict=True):
            tables = [tier.block_ids(segment.segment_id)[blocks.start : blocks.stop] for tier in (source, destination)]
            runs.append(coalesce(*tables))
            valid_lens = [tier.valid_len(segment.segment_id) for tier in (destination, source)]
            ranges.append(SegmentRange(segment.segment_id, valid_lens[0], max(valid_lens)))
        job = SwapJob(next(self._job_ids), request_id, direction, tuple(ranges), np.concatenate(runs))
        self._under_way[job.job_id] = (job, tuple(segments))
        for segment in segments:
            segment.job = job
        return job

    def end(self, job: SwapJob) -> tuple[Segment, ...]:
        """Close the job; return the segments that it took along, in the order of its ranges.

        Raises:
            ValueError: if the job is not under way.
        """
        known, segments = self._under_way.get(job.job_id, (None, ()))
        if known is not job:
            raise ValueError(f"job {job.job_id} is not under way: it was landed or aborted before")
        del self._under_way[job.job_id]
        for segment in segments:
            segment.job = None
        return segments

    def check_invariants(self, segments: Iterable[Segment]) -> None:
        """Assert the module's invariants; ``segments`` are all that exist.

        Raises:
            AssertionError: if the book is inconsistent, which is a bug of ours.
        """
        busy = {segment: job for job, taken in self._under_way.values() for segment in taken}
        named = {segment: segment.job for segment in segments if segment.job is not None}
        assert busy == named, f"segments of jobs {busy} != segments that name a job {named}"
        for job, _ in self._under_way.values():
            source, destination = self._tiers[job.direction]
            for entry in job.ranges:
                valid_lens = [tier.valid_len(entry.segment_id) for tier in (destination, source)]
                assert max(valid_lens) == entry.end_token, f"{entry} changed while job {job.job_id} ran: {valid_lens}"
                assert valid_lens[0] == entry.start_token, f"{entry} changed while job {job.job_id} ran: {valid_lens}"
                assert not destination.shortage(entry.segment_id, entry.end_token), f"{entry} lost its destination"

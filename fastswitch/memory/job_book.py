"""The copies under way: which blocks each one moves, and which segments it holds up.

Ours. A job begins when its destination has room, and ends once, landed or aborted. It is begun for one request and
takes along those of its segments that the destination lacks, unless another's job moves them already. One that is begun
*ahead* leaves its request as it is.
Invariants, asserted by `JobBook.check_invariants`:
1. A segment names a job if and only if that job is under way and takes it along; a request only such a one.
2. While a job is under way its source is right up to the end of its range, and its destination holds room up to there;
   only what a swap-out reads and somebody else holds already is no longer its source's (`HandedOver`).
3. A job ends after all those that it comes after.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from fastswitch.memory.coalesce import coalesce
from fastswitch.memory.handed_over import HandedOver
from fastswitch.memory.segment import Holder, Segment
from fastswitch.memory.swap_job import SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.tier import Tier

__all__ = ["JobBook"]


class JobBook:
    """Begins and ends jobs between two tiers.

    Args:
        device: the device's copies.
        host: the host's copies.

    Attributes:
        handed_over: device blocks that have a new owner while a swap-out still reads them.
    """

    def __init__(self, device: Tier, host: Tier) -> None:
        self.handed_over = HandedOver(device)
        self._tiers = {SwapDirection.SWAP_OUT: (device, host), SwapDirection.SWAP_IN: (host, device)}
        self._under_way: dict[int, tuple[SwapJob, Holder, tuple[Segment, ...]]] = {}  # job_id |-> whose, and of what
        self._job_ids = itertools.count()

    def destination(self, direction: SwapDirection) -> Tier:
        """Where the bytes go."""
        return self._tiers[direction][1]

    def lacking(self, segment: Segment, direction: SwapDirection) -> range:
        """Indices of the segment's blocks that the destination lacks, whole or in part, and no job brings."""
        source, destination = self._tiers[direction]
        start, end = destination.valid_len(segment.segment_id), source.valid_len(segment.segment_id)
        if end <= start or segment.job is not None:
            return range(0)
        # A partly filled last block that has grown since is copied again, whole.
        return range(start // source.block_size, -(-end // source.block_size))

    def begin(self, holder: Holder, direction: SwapDirection, after: tuple[SwapJob, ...] = ()) -> SwapJob | None:
        """A job for what the destination lacks, for which it must hold room already; None if it lacks nothing."""
        moving = [(s, blocks) for s in holder.segments if (blocks := self.lacking(s, direction))]
        job = self._make(holder, direction, moving, after=after)
        holder.job = job
        return job

    def begin_ahead(self, holder: Holder, direction: SwapDirection, max_blocks: int) -> SwapJob | None:
        """A job for the first blocks, at most so many, that the destination lacks; room is taken there.

        The request goes on as it is: resident, or evicted. What it writes meanwhile is not part of the job.
        """
        moving = []
        for segment in holder.segments:
            blocks = self.lacking(segment, direction)[: max(0, max_blocks)]
            max_blocks -= len(blocks)
            if blocks:
                moving.append((segment, blocks))
        destination = self.destination(direction)
        for segment, blocks in moving:
            destination.hold(segment.segment_id, blocks.stop * destination.block_size)
        return self._make(holder, direction, moving, ahead=True)

    def _make(
        self,
        holder: Holder,
        direction: SwapDirection,
        moving: list[tuple[Segment, range]],
        *,
        after: tuple[SwapJob, ...] = (),
        ahead: bool = False,
    ) -> SwapJob | None:
        source, destination = self._tiers[direction]
        if not moving:
            return None
        ranges, tables = [], []
        for segment, blocks in moving:
            name = segment.segment_id
            tables.append([tier.block_ids(name)[blocks.start : blocks.stop] for tier in (source, destination)])
            end = min(source.valid_len(name), blocks.stop * source.block_size)
            ranges.append(SegmentRange(name, destination.valid_len(name), end))
        # a run may go over several segments
        sides = tables[0] if len(tables) == 1 else map(np.concatenate, zip(*tables, strict=True))
        runs = coalesce(*sides)
        job = SwapJob(next(self._job_ids), holder.request_id, direction, tuple(ranges), runs, after, ahead)
        segments = tuple(segment for segment, _ in moving)
        self._under_way[job.job_id] = (job, holder, segments)
        for segment in segments:
            segment.job = job
        return job

    def of(self, job: SwapJob) -> tuple[Holder, tuple[Segment, ...]]:
        """For whom a job was begun, and what it takes along, in the order of its ranges.

        Raises:
            ValueError: if the job is not under way.
        """
        entry = self._under_way.get(job.job_id)
        if entry is None or entry[0] is not job:
            raise ValueError(f"job {job.job_id} is not under way: it was landed or aborted before")
        return entry[1], entry[2]

    def before(self, job: SwapJob) -> list[SwapJob]:
        """Those that the job comes after and that are under way: it cannot end before them."""
        return [other for other in job.after if other.job_id in self._under_way]

    def end(self, job: SwapJob) -> tuple[Holder, tuple[Segment, ...]]:
        """Close the job; returns what `of` does.

        Raises:
            ValueError: if the job is not under way, or one that it comes after is.
        """
        holder, segments = self.of(job)
        for other in self.before(job):
            message = f"job {job.job_id} comes after job {other.job_id}, which is under way: land or abort that first"
            raise ValueError(message)
        del self._under_way[job.job_id]
        self.handed_over.end(job)
        if holder.job is job:  # else it has gone on without it: the job was quarantined
            holder.job = None
        for segment in segments:
            segment.job = None
            segment.quarantined = False
        return holder, segments

    def check_invariants(self, holders: Iterable[Holder], segments: Iterable[Segment]) -> None:
        """Assert the module's invariants; the arguments are all that exist.

        Raises:
            AssertionError: if the book is inconsistent, which is a bug of ours.
        """
        busy = {segment: job for job, _, taken in self._under_way.values() for segment in taken}
        named = {segment: segment.job for segment in segments if segment.job is not None}
        assert busy == named, f"segments of jobs {busy} != segments that name a job {named}"
        under_way = [job for job, _, _ in self._under_way.values()]
        for holder in holders:
            assert holder.job in (None, *under_way), f"{holder.request_id!r} names a job that is not under way"
        for job in under_way:
            self._check_ranges(job)
        self.handed_over.check_invariants((job, taken) for job, _, taken in self._under_way.values())

    def _check_ranges(self, job: SwapJob) -> None:
        source, destination = self._tiers[job.direction]
        for entry in job.ranges:
            name = entry.segment_id
            start, end = destination.valid_len(name), source.valid_len(name)
            assert start == entry.start_token, f"{entry} changed while job {job.job_id} ran: starts at {start}"
            whole = end >= entry.end_token or job in self.handed_over
            assert whole, f"{entry} changed while job {job.job_id} ran: ends at {end}"
            assert not destination.shortage(name, entry.end_token), f"{entry} lost its destination"

"""KV of every request on two tiers, moved by transactions.

Paper: FastSwitch (arXiv 2411.18424), KV Cache Reuse Mechanism: host copies of conversations are kept, only the
       increment is copied out, copies that lost their host room are tracked.
Ours:  one transaction for every move (reserve, copy, land or abort); a copy's truth is one number, ``valid_len``;
       evicted blocks stay until somebody needs the room, so a request that comes back soon comes back free.

The manager copies nothing: ``begin_swap_out`` and ``begin_swap_in`` reserve the destination and return a ``SwapJob``
for whoever moves bytes; ``land`` makes it true, ``abort`` makes it never have happened.

Not thread-safe: one thread, the engine's, calls it. Invariants, asserted by ``check_invariants``:

1. On each tier the blocks of the known segments and the free blocks partition the pool.
2. ``valid_len`` never exceeds what was committed or landed: it fits the blocks held, and stands still while a job runs.
3. A segment that a job reads or writes keeps its blocks on both tiers until the job ends.
4. A *clean* segment (evicted, no job, the host has all that the device has) may lose its device blocks at any time;
   nobody else does.
5. The device has all that the host has of a resident segment without a job.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import BlockAllocator
from fastswitch.memory.job_book import JobBook
from fastswitch.memory.reclaim import Reclaimer
from fastswitch.memory.roster import Roster
from fastswitch.memory.segment import Segment
from fastswitch.memory.swap_job import SwapDirection, SwapJob
from fastswitch.memory.tier import KVCopy, Tier

__all__ = ["KVCacheManager"]


class KVCacheManager:
    """Who holds which blocks, on which tier, and which bytes are still true.

    Args:
        device: allocator of the device pool; the manager's alone from now on.
        host: allocator of the host pool, likewise.
        block_size: tokens in a block.
        reuse: keep the host copy when a request comes back, so that its next swap-out copies only what is new.

    >>> from fastswitch.memory import BlockGroupAllocator
    >>> kv = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(32), block_size=4)
    >>> kv.add("a")
    >>> kv.grow("a", 10)                      # room for 10 tokens: 3 blocks
    >>> kv.commit("a", 10)                    # their KV is written
    >>> job = kv.begin_swap_out("a")
    >>> job.runs.tolist()                     # src_start, dst_start, num_blocks
    [[0, 0, 3]]
    >>> kv.land(job)
    >>> kv.num_free, kv.num_clean
    (5, 3)
    >>> kv.begin_swap_in("a", 11) is None     # nobody needed the room: back at no cost
    True
    """

    def __init__(self, device: BlockAllocator, host: BlockAllocator, block_size: int, *, reuse: bool = True) -> None:
        self.device = Tier(device, block_size)
        self.host = Tier(host, block_size)
        self.block_size = block_size
        self.reuse = reuse
        self._roster = Roster()
        self._jobs = JobBook(self.device, self.host)
        self._reclaimer = Reclaimer(self.device, self.host)

    # What is where

    @property
    def num_free(self) -> int:
        """Device blocks that nobody holds."""
        return self.device.num_free

    @property
    def num_clean(self) -> int:
        """Device blocks of evicted segments that the host has in full: free for the asking."""
        return self._reclaimer.clean_blocks(self._roster.evicted.values())

    @property
    def num_vacating(self) -> int:
        """Device blocks that become clean, or free, when the copies under way land."""
        return sum(self.device.num_blocks(segment.segment_id) for segment in self._roster.moving_out)

    @property
    def num_host_free(self) -> int:
        """Host blocks that a swap-out can have: the free ones and those that reclaiming would give."""
        return self._reclaimer.host_room(self._roster.known)

    def device_copy(self, request_id: Hashable) -> tuple[KVCopy, ...]:
        """The device copy of each of the request's segments."""
        return tuple(self.device.copy(segment.segment_id) for segment in self._roster.of(request_id))

    def host_copy(self, request_id: Hashable) -> tuple[KVCopy, ...]:
        """The host copy of each of the request's segments."""
        return tuple(self.host.copy(segment.segment_id) for segment in self._roster.of(request_id))

    def device_valid_len(self, request_id: Hashable) -> int:
        """Tokens of the request whose KV on the device is right."""
        return sum(self.device.valid_len(segment.segment_id) for segment in self._roster.of(request_id))

    def host_valid_len(self, request_id: Hashable) -> int:
        """Tokens of the request whose KV on the host is right."""
        return sum(self.host.valid_len(segment.segment_id) for segment in self._roster.of(request_id))

    def device_blocks(self, request_id: Hashable) -> int:
        """Device blocks that the request holds."""
        return sum(self.device.num_blocks(segment.segment_id) for segment in self._roster.of(request_id))

    def dirty_blocks(self, request_id: Hashable) -> int:
        """Blocks that an eviction would have to copy to the host now."""
        return sum(len(self._jobs.lacking(s, SwapDirection.SWAP_OUT)) for s in self._roster.of(request_id))

    def is_resident(self, request_id: Hashable) -> bool:
        """Whether the request's KV is on the device, wanted there, and no copy of it is under way."""
        return all(segment.resident and segment.job is None for segment in self._roster.of(request_id))

    def block_table(self, request_id: Hashable) -> NDArray[np.int32]:
        """The request's device block ids in token order, int32 ``[n]``."""
        return np.concatenate([self.device.block_ids(segment.segment_id) for segment in self._roster.of(request_id)])

    # A request's life

    def add(self, request_id: Hashable) -> None:
        """Make an empty, resident request known.

        Raises:
            ValueError: if it is known already, or was released while a copy was under way that has not ended.
        """
        self._roster.add(request_id)

    def prefer(self, request_ids: Sequence[Hashable]) -> None:
        """Say who matters, best first: room is taken from the last ones first, and from unnamed ones before them."""
        self._reclaimer.prefer(
            s.segment_id for known in request_ids if known in self._roster for s in self._roster.of(known)
        )

    def grow(self, request_id: Hashable, num_tokens: int) -> None:
        """Hold device room for ``num_tokens`` tokens of a resident request; clean blocks are reclaimed as needed.

        Raises:
            OutOfBlocksError: nothing changed.
            ValueError: if the request is evicted or a copy of it is under way.
        """
        last, offset = self._last(self._roster.expect(request_id, resident=True))
        need = self.device.shortage(last.segment_id, num_tokens - offset)
        self._reclaimer.reclaim_device(need, self._roster.evicted.values(), keep=())
        self.device.hold(last.segment_id, num_tokens - offset)

    def commit(self, request_id: Hashable, num_tokens: int) -> None:
        """The KV of the first ``num_tokens`` tokens is written on the device.

        Raises:
            ValueError: if that is less than before or more than the room held, or the request is not resident.
        """
        last, offset = self._last(self._roster.expect(request_id, resident=True))
        self.device.mark_valid(last.segment_id, num_tokens - offset)

    def start_turn(self, request_id: Hashable) -> None:
        """The conversation has something to compute again."""
        for segment in self._roster.of(request_id):
            segment.idle = False

    def finish_turn(self, request_id: Hashable) -> None:
        """The conversation idles: it keeps both copies until somebody needs the room, its host room first."""
        for segment in self._roster.of(request_id):
            segment.idle = True

    def rollback(self, request_id: Hashable, num_tokens: int) -> None:
        """Forget the KV behind the first ``num_tokens`` tokens on both tiers; its blocks are given back.

        Raises:
            ValueError: if a copy of it is under way, or ``num_tokens`` is negative.
        """
        if num_tokens < 0:
            raise ValueError(f"num_tokens must not be negative, got {num_tokens}")
        for segment in self._roster.expect(request_id):
            segment_len = max(tier.valid_len(segment.segment_id) for tier in (self.device, self.host))
            for tier in (self.device, self.host):
                tier.cut(segment.segment_id, num_tokens)
            num_tokens = max(0, num_tokens - segment_len)

    def drop(self, request_id: Hashable) -> None:
        """Forget all its KV on both tiers; it stays known, resident with nothing: recompute it.

        Raises:
            ValueError: if a copy of it is under way.
        """
        self.rollback(request_id, 0)
        for segment in self._roster.of(request_id):
            self._roster.bring_back(segment)

    def release(self, request_id: Hashable) -> None:
        """End the request. What a copy under way reads or writes is freed when that job is landed or aborted."""
        self._free(self._roster.remove(request_id))

    # The transaction

    def begin_swap_out(self, request_id: Hashable) -> SwapJob | None:
        """Evict: reserve host room for what the host lacks. None if it lacks nothing: the blocks are clean at once.

        Raises:
            OutOfBlocksError: the host has no room; nothing changed.
            ValueError: if the request is evicted already, or a copy of it is under way.
        """
        segments = self._roster.expect(request_id, resident=True)
        need = sum(self.host.shortage(s.segment_id, self.device.valid_len(s.segment_id)) for s in segments)
        self._reclaimer.reclaim_host(need, self._roster.known, keep=segments)
        for segment in segments:
            self._roster.evict(segment)
            self.device.trim(segment.segment_id)
            self.host.hold(segment.segment_id, self.device.valid_len(segment.segment_id))
        return self._jobs.begin(request_id, segments, SwapDirection.SWAP_OUT)

    def begin_swap_in(self, request_id: Hashable, num_tokens: int) -> SwapJob | None:
        """Bring an evicted request back, with device room for ``num_tokens``. None if the device still has everything.

        Raises:
            OutOfBlocksError: the device has no room; nothing changed.
            ValueError: if the request is resident, or a copy of it is under way.
        """
        segments = self._roster.expect(request_id, resident=False)
        last, offset = self._last(segments)
        room = {s.segment_id: self.host.valid_len(s.segment_id) for s in segments}
        room[last.segment_id] = max(room[last.segment_id], num_tokens - offset)
        need = sum(self.device.shortage(*entry) for entry in room.items())
        self._reclaimer.reclaim_device(need, self._roster.evicted.values(), keep=segments)
        for segment in segments:
            self._roster.bring_back(segment)
            self.device.hold(segment.segment_id, room[segment.segment_id])
        job = self._jobs.begin(request_id, segments, SwapDirection.SWAP_IN)
        self._forget_host_copies(segments)
        return job

    def land(self, job: SwapJob) -> None:
        """The job's bytes have arrived: they are true at its destination from now on.

        Raises:
            ValueError: if the job is not under way.
        """
        segments = self._jobs.end(job)
        for entry in job.ranges:
            self._jobs.destination(job.direction).mark_valid(entry.segment_id, entry.end_token)
        self._forget_host_copies(segments)
        self._free(self._roster.part_with(segments))

    def abort(self, job: SwapJob) -> None:
        """The job failed or was called off: its destination gives the room back, and nothing else changed.

        The request stays evicted. After an aborted swap-out its device copy is the only whole one: drop it, or bring
        it back (``begin_swap_in`` has nothing to copy then).

        Raises:
            ValueError: if the job is not under way.
        """
        segments = self._jobs.end(job)
        for segment in segments:
            self._roster.evict(segment)
            self._jobs.destination(job.direction).trim(segment.segment_id)
        self._free(self._roster.part_with(segments))

    def check_invariants(self) -> None:
        """Assert the module's invariants and those of both tiers.

        Raises:
            AssertionError: if the manager is inconsistent, which is a bug of ours.
        """
        segments = [*self._roster.known, *self._roster.leaving.values()]
        self._roster.check_invariants()
        self._jobs.check_invariants(segments)
        known = {segment.segment_id for segment in segments}
        for tier in (self.device, self.host):
            tier.check_invariants()
            assert tier.segment_ids <= known, f"blocks without a segment: {tier.segment_ids - known}"
        for segment in segments:
            whole = self.device.valid_len(segment.segment_id) >= self.host.valid_len(segment.segment_id)
            assert whole or segment.job or not segment.resident, f"{segment.segment_id!r} is resident, and not whole"

    # Private

    def _last(self, segments: Sequence[Segment]) -> tuple[Segment, int]:
        """The segment that grows, and the tokens in front of it."""
        earlier = [segment.segment_id for segment in segments[:-1]]
        return segments[-1], sum(max(tier.valid_len(each) for tier in (self.device, self.host)) for each in earlier)

    def _forget_host_copies(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            if not self.reuse and segment.resident and segment.job is None:
                self.host.cut(segment.segment_id, 0)

    def _free(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self.device.cut(segment.segment_id, 0)
            self.host.cut(segment.segment_id, 0)

"""KV of every request on two tiers, moved by transactions.

Paper: FastSwitch (arXiv 2411.18424), KV Cache Reuse Mechanism: host copies of conversations are kept, only the
       increment is copied out, copies that lost their host room are tracked.
Ours:  one transaction for every move (reserve, copy, land or abort); a copy's truth is one number, ``valid_len``;
       evicted blocks stay until room runs low, so a request that comes back soon comes back free; a prefix that
       several requests read is stored once on each tier.

The manager copies nothing: ``begin_swap_out`` and ``begin_swap_in`` reserve the destination and return a ``SwapJob``
for whoever moves bytes; ``land`` makes it true, ``abort`` makes it never have happened. ``suspend`` and ``resume`` do
all of it in one call.

Single-threaded by design: the thread that calls first owns it, which is asserted in debug mode. Invariants, asserted by
``check_invariants``:

1. On each tier the blocks of the segments and the free blocks partition the pool.
2. ``valid_len`` never exceeds what was committed or landed: it fits the blocks held, and stands still while a job runs.
3. A segment that a job reads or writes keeps its blocks on both tiers until the job ends, but for device blocks that a
   swap-out reads and that are handed over to a job after it (``begin_swap_in`` with ``early``).
4. A *clean* segment (no holder resident, no job, the host has all that the device has) may lose its device blocks at
   any time; nobody else does.
5. The device has all of each segment of a resident request without a job.
6. Nobody reads behind a hole: the segments before a request's last one are whole on one tier at least.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import index

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import BlockAllocator
from fastswitch.memory.job_book import JobBook
from fastswitch.memory.kv_statistics import KVStatistics, TierStatistics, count_kinds
from fastswitch.memory.leaving import Leaving
from fastswitch.memory.owner_thread import WRONG_THREAD, OwnerThread
from fastswitch.memory.reclaim import Reclaimer
from fastswitch.memory.roster import Roster
from fastswitch.memory.segment import Holder, Segment
from fastswitch.memory.sharing import Sharing
from fastswitch.memory.statistics import pool_statistics
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
        min_tail: blocks; no shorter piece of a long copy is given up when a tier runs short.
        headroom: share of the smaller pool to keep free on each tier, as far as giving up copies that the other tier
            has too can do it: room that is found block by block would make every later swap fall into many runs.

    Raises:
        ValueError: if ``block_size`` or ``min_tail`` is not positive, ``headroom`` is outside [0, 1], or an allocator
            has owners already.

    >>> from fastswitch.memory import BlockGroupAllocator
    >>> kv = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(32), block_size=4)
    >>> kv.add("a")
    >>> kv.grow("a", 10)                      # room for 10 tokens: 3 blocks
    >>> kv.commit("a", 10)                    # their KV is written
    >>> job = kv.begin_swap_out("a")
    >>> job.num_blocks, job.num_runs
    (3, 1)
    >>> kv.land(job)
    >>> kv.num_free, kv.num_clean
    (5, 3)
    >>> kv.begin_swap_in("a", 11) is None     # nobody needed the room: back at no cost
    True
    """

    def __init__(
        self,
        device: BlockAllocator,
        host: BlockAllocator,
        block_size: int,
        *,
        reuse: bool = True,
        min_tail: int = 64,
        headroom: float = 0.15,
    ) -> None:
        if device is host:
            raise ValueError("device and host need an allocator each, got the same one twice")
        self.device = Tier(device, block_size)
        self.host = Tier(host, block_size)
        self.block_size = block_size
        self.reuse = reuse
        self._roster = Roster()
        self._jobs = JobBook(self.device, self.host)
        self._reclaimer = Reclaimer(self.device, self.host, min_tail, headroom)
        self._sharing = Sharing(self._roster, self.device, self.host)
        self._put_off: list[SwapJob] = []  # to be aborted when those that they come after have ended
        self._thread = OwnerThread()
        self._leaving = Leaving(self.device, lambda: self._on(self.device), self._reclaimer.clean_blocks)

    # What is where

    @property
    def num_free(self) -> int:
        """Device blocks that nobody holds."""
        return self.device.num_free

    @property
    def num_clean(self) -> int:
        """Device blocks of evicted segments that the host has in full: free for the asking."""
        return self._leaving.clean

    @property
    def num_vacating(self) -> int:
        """Device blocks that become clean, or free, when the copies under way land."""
        return self._leaving.vacating

    @property
    def num_host_free(self) -> int:
        """Host blocks that a swap-out can have: the free ones and those that reclaiming may give."""
        return self.host.num_free + self._reclaimer.host_spare(self._on(self.host))

    @property
    def num_idle(self) -> int:
        """Free device blocks beyond what is kept free for the next who needs some."""
        return self._reclaimer.num_idle(self.device)

    @property
    def num_host_idle(self) -> int:
        """Free host blocks beyond what is kept free for the next who needs some."""
        return self._reclaimer.num_idle(self.host)

    def segment_ids(self, request_id: Hashable) -> tuple[Hashable, ...]:
        """The segments that the request reads, in token order: their names in both tiers; the last is its own."""
        return tuple(segment.segment_id for segment in self._roster.of(request_id).segments)

    def device_copy(self, request_id: Hashable) -> tuple[KVCopy, ...]:
        """The device copy of each of the request's segments."""
        return tuple(map(self.device.copy, self.segment_ids(request_id)))

    def host_copy(self, request_id: Hashable) -> tuple[KVCopy, ...]:
        """The host copy of each of the request's segments."""
        return tuple(map(self.host.copy, self.segment_ids(request_id)))

    def device_valid_len(self, request_id: Hashable) -> int:
        """Tokens of the request, from its first on, whose KV on the device is right."""
        holder = self._roster.holders[request_id]
        if len(holder.segments) == 1:  # nothing was forked: the common case, asked about for each token
            return self.device.valid_len(holder.segments[0].segment_id)
        return _valid_len(self.device, holder)

    def host_valid_len(self, request_id: Hashable) -> int:
        """Tokens of the request, from its first on, whose KV on the host is right."""
        return _valid_len(self.host, self._roster.of(request_id))

    def device_blocks(self, request_id: Hashable) -> int:
        """Device blocks that the request reads or has room in, shared ones included."""
        holder = self._roster.holders[request_id]
        if len(holder.segments) == 1:
            return self.device.num_blocks(holder.segments[0].segment_id)
        return _num_blocks(self.device, holder)

    def host_blocks(self, request_id: Hashable) -> int:
        """Host blocks of the request's segments, shared ones included."""
        return _num_blocks(self.host, self._roster.of(request_id))

    def host_blocks_needed(self, request_id: Hashable) -> int:
        """Host blocks that an eviction would take now, beyond those that the request's segments hold."""
        return self._host_shortage(s for s in self._roster.of(request_id).segments if s.job is None)

    def dirty_blocks(self, request_id: Hashable) -> int:
        """Blocks that an eviction would have to copy to the host now."""
        return sum(len(self._jobs.lacking(s, SwapDirection.SWAP_OUT)) for s in self._roster.of(request_id).segments)

    def missing_blocks(self, request_id: Hashable) -> int:
        """Blocks that a return would have to copy to the device now."""
        return sum(len(self._jobs.lacking(s, SwapDirection.SWAP_IN)) for s in self._roster.of(request_id).segments)

    def is_resident(self, request_id: Hashable) -> bool:
        """Whether the request's KV is on the device, wanted there, and no copy was begun for it."""
        holder = self._roster.of(request_id)
        return holder.resident and holder.job is None

    def jobs(self, request_id: Hashable) -> tuple[SwapJob, ...]:
        """The copies under way that read or write a segment of the request, begun for whomever."""
        jobs = [segment.job for segment in self._roster.of(request_id).segments if segment.job is not None]
        return tuple(dict.fromkeys(jobs))

    def still_read(self, block_ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these device blocks a swap-out reads although somebody else holds them already; bool ``[n]``."""
        return self._jobs.handed_over.still_read(block_ids)

    def block_table(self, request_id: Hashable) -> NDArray[np.int32]:
        """The request's device block ids in token order, int32 ``[n]``."""
        tables = [self.device.block_ids(segment_id) for segment_id in self.segment_ids(request_id)]
        return tables[0] if len(tables) == 1 else np.concatenate(tables)

    def count_blocks(self, tier: Tier) -> dict[str, int]:
        """The blocks that somebody holds on a tier, by kind: the names of `TierStatistics`."""
        segments = self._on(tier)
        may_go = self._reclaimer.clean_blocks if tier is self.device else self._reclaimer.host_spare
        return count_kinds(tier, segments, may_go(segments))

    def statistics(self) -> KVStatistics:
        """What an operator needs to know of both tiers, in O(segments and groups)."""
        device, host = (
            TierStatistics(pool_statistics(tier.allocator), **self.count_blocks(tier))
            for tier in (self.device, self.host)
        )
        return KVStatistics(device, host, self._reclaimer.given_up)

    # A request's life

    def add(self, request_id: Hashable) -> None:
        """Make an empty, resident request known.

        Raises:
            ValueError: if it is known already.
        """
        self._begin_change()
        self._roster.add(request_id)

    def fork(self, request_id: Hashable, new_request_id: Hashable, at_token: int) -> int:
        """Make a request known that begins with another's first ``at_token`` tokens, without storing them again.

        For parallel sampling and branching conversations. Whole blocks are shared, on both tiers, by any number of
        requests: swapped once, on the device as long as one of them is, freed with the last. The new request is
        resident if the other is, else evicted.

        Returns:
            Tokens shared: ``at_token`` rounded down to whole blocks. What lies behind them the new request computes.

        Raises:
            ValueError: if it is known already, the other has less KV, or a copy of what is to be cut is under way.
        """
        parent = self._expect(request_id)
        most = self._sharing.valid_len(parent)
        if not 0 <= index(at_token) <= most:
            raise ValueError(f"at_token must be in [0, {most}], the KV that {request_id!r} has, got {at_token}")
        return self._sharing.fork(parent, new_request_id, at_token).shared_len

    def prefer(self, request_ids: Sequence[Hashable]) -> None:
        """Say who matters, best first: room is taken from the last ones first, and from unnamed ones before them."""
        assert self._thread.is_current(), WRONG_THREAD
        self._reclaimer.prefer(request_ids)

    def grow(self, request_id: Hashable, num_tokens: int) -> None:
        """Hold device room for ``num_tokens`` tokens of a resident request; clean blocks are reclaimed as needed.

        Raises:
            OutOfBlocksError: nothing changed.
            ValueError: if the request is evicted or a copy of it is under way.
        """
        assert self._thread.is_current(), WRONG_THREAD
        holder = self._roster.expect(request_id, resident=True)
        own, own_tokens = holder.own.segment_id, _count(num_tokens) - holder.shared_len
        self._reclaim_device(self.device.shortage(own, own_tokens), keep=())
        self.device.hold(own, own_tokens)

    def commit(self, request_id: Hashable, num_tokens: int) -> None:
        """The KV of the first ``num_tokens`` tokens is written on the device.

        Raises:
            ValueError: if that is less than before or more than the room held, or the request is not resident.
        """
        self.commit_batch([(request_id, num_tokens)])

    def commit_batch(self, lengths: Iterable[tuple[Hashable, int]]) -> None:
        """As `commit`, for a whole iteration at once: pairs of ``request_id`` and ``num_tokens``.

        Raises:
            ValueError: as `commit` does; the pairs in front of the wrong one are committed.
        """
        assert self._thread.is_current(), WRONG_THREAD
        holders, extend_valid = self._roster.holders, self.device.extend_valid
        for request_id, num_tokens in lengths:
            holder = holders[request_id]
            if holder.job is not None or not holder.resident:
                self._roster.expect(request_id, resident=True)  # which says what is wrong
            segments = holder.segments
            own_tokens = index(num_tokens) - (holder.shared_len if len(segments) > 1 else 0)
            if not extend_valid(segments[-1].segment_id, own_tokens):
                before, room = _valid_len(self.device, holder), _num_blocks(self.device, holder) * self.block_size
                raise ValueError(
                    f"num_tokens must be in [{before}, {room}], what it has and has room for, got {_count(num_tokens)}"
                )

    def start_turn(self, request_id: Hashable) -> None:
        """The conversation has something to compute again."""
        self._begin_change()
        self._roster.of(request_id).idle = False

    def finish_turn(self, request_id: Hashable) -> None:
        """The conversation idles: it keeps both copies until somebody needs the room, its host room first."""
        self._begin_change()
        self._roster.of(request_id).idle = True

    def rollback(self, request_id: Hashable, num_tokens: int) -> None:
        """Forget the KV behind the first ``num_tokens`` tokens on both tiers; its blocks are given back.

        In front of where it was forked, only whole blocks are kept.

        Raises:
            ValueError: if a copy of it is under way, or ``num_tokens`` is negative.
        """
        holder = self._expect(request_id)
        self._refuse_ahead(holder)
        own_tokens = _count(num_tokens) - holder.shared_len
        if own_tokens < 0:
            kept = self._sharing.seal(holder, num_tokens)
            self._sharing.let_go(holder, [s for s in holder.segments[:-1] if s not in kept])
        for tier in (self.device, self.host):
            tier.cut(holder.own.segment_id, max(0, own_tokens))

    def drop(self, request_id: Hashable) -> None:
        """Forget all its KV on both tiers; it stays known, resident with nothing: recompute it.

        Raises:
            ValueError: if a copy of it is under way.
        """
        holder = self._expect(request_id)
        self._sharing.forget(holder)
        holder.resident = True

    def release(self, request_id: Hashable) -> None:
        """End the request. What a copy under way reads or writes is freed when that job is landed or aborted."""
        self._begin_change()
        holder = self._roster.of(request_id)
        del self._roster.holders[request_id]
        self._sharing.let_go(holder, holder.segments)

    # The transaction

    def begin_swap_out(self, request_id: Hashable) -> SwapJob | None:
        """Evict: reserve host room for what the host lacks. None if it lacks nothing, or another's job brings it.

        What a resident request reads too is copied, and stays on the device.

        Raises:
            OutOfBlocksError: the host has no room; nothing changed.
            ValueError: if the request is evicted already, or a copy of it is under way.
        """
        holder = self._expect(request_id, resident=True)
        self._refuse_ahead(holder)
        moving = [segment for segment in holder.segments if segment.job is None]
        lost = self._reclaim_host(self._host_shortage(moving), holder)
        holder.resident = False
        self.device.trim(holder.own.segment_id)
        for segment in moving:
            self.host.hold(segment.segment_id, self.device.valid_len(segment.segment_id))
        self._sharing.shed_lost(lost)
        return self._jobs.begin(holder, SwapDirection.SWAP_OUT)

    def begin_swap_in(self, request_id: Hashable, num_tokens: int, *, early: bool = False) -> SwapJob | None:
        """Bring an evicted request back, with device room for ``num_tokens``. None if the device still has everything.

        Args:
            request_id: evicted.
            num_tokens: tokens to hold device room for, those that it has KV for included.
            early: where free and clean blocks are too few, and the job writes to whatever segment takes more, take
                blocks that swap-outs under way still read, of the worst-ranked requests first. The job's copies must
                then start after theirs (``SwapJob.after``), and it ends after them.

        Raises:
            OutOfBlocksError: the device has no room; nothing changed.
            ValueError: if the request is resident, or a copy of it is under way: also one of a segment that it shares,
                on its way in for another (``jobs`` names it). Begin again when that has ended.
        """
        holder = self._expect(request_id, resident=False)
        self._refuse_ahead(holder)
        for other in self.jobs(request_id):
            if other.direction is SwapDirection.SWAP_IN:
                message = f"request {request_id!r} shares KV that job {other.job_id} brings in: wait for it first"
                raise ValueError(message)
        room = {s.segment_id: self.host.valid_len(s.segment_id) for s in holder.segments}
        own = holder.own.segment_id
        room[own] = max(room[own], _count(num_tokens) - holder.shared_len)
        need = sum(self.device.shortage(*entry) for entry in room.items())
        growing = [s for s in holder.segments if self.device.shortage(s.segment_id, room[s.segment_id])]
        early = early and all(self._jobs.lacking(segment, SwapDirection.SWAP_IN) for segment in growing)
        after = self._take_early(need, holder) if early else ()
        self._reclaim_device(need, keep=holder.segments)
        self._leaving.stale()
        holder.resident = True
        for segment_id, num_room in room.items():
            self.device.hold(segment_id, num_room)
        job = self._jobs.begin(holder, SwapDirection.SWAP_IN, after)
        self._forget_host_copies(holder.segments)
        return job

    def begin_write_back(self, request_id: Hashable, max_blocks: int) -> SwapJob | None:
        """Copy ahead, to the host, what a later eviction would have to: the request stays resident and may go on.

        Only host blocks that nobody holds are taken. Until the job has ended the request can be dropped and released,
        but not evicted.

        Args:
            request_id: resident.
            max_blocks: most blocks to copy; the first that the host lacks.

        Returns:
            The job; None if the host lacks nothing, has no free block, or another's job brings it.

        Raises:
            ValueError: if the request is evicted or a copy of it is under way.
        """
        holder = self._expect(request_id, resident=True)
        return self._jobs.begin_ahead(holder, SwapDirection.SWAP_OUT, min(max_blocks, self.host.num_free))

    def begin_prefetch(self, request_id: Hashable, max_blocks: int) -> SwapJob | None:
        """Copy ahead, to the device, what a later return would have to: the request stays evicted.

        Only device blocks that nobody holds are taken; when the job has landed they are clean, so whoever needs the
        room takes it back. Until the job has ended the request can be dropped and released, but not brought back.

        Args:
            request_id: evicted.
            max_blocks: most blocks to copy; the first that the device lacks.

        Returns:
            The job; None if the device lacks nothing, has no free block, or another's job brings it.

        Raises:
            ValueError: if the request is resident or a copy of it is under way.
        """
        holder = self._expect(request_id, resident=False)
        return self._jobs.begin_ahead(holder, SwapDirection.SWAP_IN, min(max_blocks, self.num_free))

    def land(self, job: SwapJob) -> None:
        """The job's bytes have arrived: they are true at its destination from now on.

        Raises:
            ValueError: if the job is not under way, or one that it comes after is.
        """
        self._begin_change()
        holder, segments = self._jobs.end(job)
        for entry in job.ranges:
            self._jobs.destination(job.direction).mark_valid(entry.segment_id, entry.end_token)
        if not job.ahead:  # else it was made for an eviction that is still to come
            self._forget_host_copies((*segments, *holder.segments))
        for segment in segments:
            self._sharing.settle(segment)
        self._abort_put_off()

    def abort(self, job: SwapJob) -> None:
        """The job failed or was called off: its destination gives the room back, and nothing else changed.

        Only when its copy has ended, or has never begun. The request stays evicted. After an aborted swap-out its
        device copy is the only whole one: drop it, or bring it back (``begin_swap_in`` has nothing to copy then). What
        was handed over to another is gone.

        A job that comes after one under way cannot give its room back yet: it is quarantined until that has ended, and
        its request goes on as `quarantine` says.

        Raises:
            ValueError: if the job is not under way.
        """
        if self._jobs.before(job):
            self.quarantine(job)
            self._put_off.append(job)
            return
        self._begin_change()
        self._abort(job)
        self._abort_put_off()

    def _abort(self, job: SwapJob) -> None:
        holder, segments = self._jobs.of(job)
        if holder.job is job:  # else it has gone on without it
            holder.resident = False
            for own in holder.segments[-1:]:  # it may have room for growth; a released request has none
                self._jobs.destination(job.direction).trim(own.segment_id)
        self._jobs.end(job)
        for segment in segments:
            self._jobs.destination(job.direction).trim(segment.segment_id)
            if holder not in segment.holders:
                self._sharing.settle(segment)

    def _abort_put_off(self) -> None:
        """Abort the jobs that came after one that has ended, and were to be aborted before."""
        ready = [job for job in self._put_off if not self._jobs.before(job)]
        for job in ready:
            self._put_off.remove(job)
            self._abort(job)

    def suspend(self, request_id: Hashable, copy: Callable[[SwapJob], object]) -> SwapJob | None:
        """Take a request off the device: begin, copy, land. The short way for an engine that waits for its copies.

        Args:
            request_id: resident.
            copy: moves the bytes of the job's runs from the device pool to the host pool before it returns.

        Returns:
            The job that was copied; None if the host had everything, or another's job under way brings it.

        Raises:
            OutOfBlocksError: the host has no room; nothing changed.
            ValueError: as `begin_swap_out` does.
            BaseException: whatever ``copy`` raises: the request is resident again, with the room that it had. What
                others gave up for its room on the host is not brought back.
        """
        num_room = self.device_blocks(request_id) * self.block_size
        job = self.begin_swap_out(request_id)
        try:
            self._carry_out(job, copy)
        except BaseException:
            self.begin_swap_in(request_id, num_room)
            raise
        return job

    def resume(self, request_id: Hashable, copy: Callable[[SwapJob], object], *, num_tokens: int = 0) -> SwapJob | None:
        """Bring a suspended request back: begin, copy, land.

        Args:
            request_id: evicted.
            copy: moves the bytes of the job's runs from the host pool to the device pool before it returns.
            num_tokens: tokens to hold device room for, those that it has KV for included.

        Returns:
            The job that was copied; None if the device still had everything.

        Raises:
            OutOfBlocksError: the device has no room; nothing changed.
            ValueError: as `begin_swap_in` does.
            BaseException: whatever ``copy`` raises: the request is evicted still, its host copy is right.
        """
        job = self.begin_swap_in(request_id, num_tokens)
        self._carry_out(job, copy)
        return job

    def quarantine(self, job: SwapJob) -> None:
        """The copy hangs: go on without it. Nobody gets its blocks before it is landed or aborted after all.

        Its request is resident with nothing, as after `drop`. Who is evicted and shares what it moves has nothing too.
        Nothing changes if it is quarantined already.

        Raises:
            ValueError: if the job is not under way.
        """
        self._begin_change()
        holder, segments = self._jobs.of(job)
        if segments[0].quarantined:
            return
        for segment in segments:
            segment.quarantined = True
        readers = dict.fromkeys(reader for segment in segments for reader in segment.holders)
        if holder.job is job or (holder.job is None and holder in readers):  # else it has gone on without what is moved
            holder.job = None
            holder.resident = True
        for reader in readers:
            if (reader is holder and holder.job is None) or not reader.resident:
                self._sharing.forget(reader)

    def hand_over(self) -> None:
        """Let the thread that calls next own the manager and both allocators."""
        self._thread.hand_over()
        self.device.allocator.hand_over()
        self.host.allocator.hand_over()

    def check_invariants(self) -> None:
        """Assert the module's invariants and those of both tiers.

        Raises:
            AssertionError: if the manager is inconsistent, which is a bug of ours.
        """
        holders, segments = self._roster.holders.values(), self._roster.segments
        self._roster.check_invariants(self.block_size)
        self._jobs.check_invariants(holders, segments.values())
        for tier in (self.device, self.host):
            tier.check_invariants()
            assert tier.segment_ids <= segments.keys(), (
                f"blocks without a segment: {tier.segment_ids - segments.keys()}"
            )
        self._sharing.check_invariants()
        self._leaving.check_invariants()

    # Private

    def _carry_out(self, job: SwapJob | None, copy: Callable[[SwapJob], object]) -> None:
        """Copy and land, or abort and raise."""
        if job is None:
            return
        try:
            copy(job)
        except BaseException:
            self.abort(job)
            raise
        self.land(job)

    def _expect(self, request_id: Hashable, *, resident: bool | None = None) -> Holder:
        self._begin_change()
        return self._roster.expect(request_id, resident=resident)

    def _begin_change(self) -> None:
        """Before a request's state changes."""
        assert self._thread.is_current(), WRONG_THREAD
        self._leaving.stale()

    def _on(self, tier: Tier) -> list[Segment]:
        """The segments that hold blocks there."""
        segments = self._roster.segments
        return [segments[segment_id] for segment_id in tier.segment_ids]

    def _reclaim_device(self, num_blocks: int, keep: Sequence[Segment]) -> None:
        if not self._reclaimer.runs_low(self.device, num_blocks):
            return
        if self.num_clean:
            self._leaving.stale()
            self._reclaimer.reclaim_device(num_blocks, self._on(self.device), keep)
        else:
            self._reclaimer.reclaim_device(num_blocks, (), keep)

    def _refuse_ahead(self, holder: Holder) -> None:
        job = holder.own.job
        if job is not None:
            message = f"request {holder.request_id!r} is copied ahead by job {job.job_id}: go on when that has ended"
            raise ValueError(message)

    def _take_early(self, num_blocks: int, holder: Holder) -> tuple[SwapJob, ...]:
        """Have blocks of swap-outs under way free, as far as free and clean ones are short of ``num_blocks``."""
        segments = self._on(self.device)
        clean = self._reclaimer.clean_blocks(s for s in segments if s not in holder.segments)
        short = num_blocks - self.num_free - clean
        if short <= 0:
            return ()
        self._leaving.stale()
        candidates = self._jobs.handed_over.candidates(segments)
        return self._jobs.handed_over.take(short, sorted(candidates, key=self._reclaimer.position, reverse=True))

    def _reclaim_host(self, num_blocks: int, holder: Holder) -> list[Segment]:
        if not self._reclaimer.runs_low(self.host, num_blocks):
            return []
        return self._reclaimer.reclaim_host(num_blocks, self._on(self.host), holder)

    def _host_shortage(self, segments: Iterable[Segment]) -> int:
        return sum(self.host.shortage(s.segment_id, self.device.valid_len(s.segment_id)) for s in segments)

    def _forget_host_copies(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            if not (self.reuse or segment.awaited or segment.job is not None):
                self.host.cut(segment.segment_id, 0)


def _count(num_tokens: int) -> int:
    """The number as an integer, refused if it is negative."""
    if index(num_tokens) < 0:
        raise ValueError(f"num_tokens must not be negative, got {num_tokens}")
    return index(num_tokens)


def _num_blocks(tier: Tier, holder: Holder) -> int:
    """Blocks there of all that the request reads."""
    return sum(tier.num_blocks(segment.segment_id) for segment in holder.segments)


def _valid_len(tier: Tier, holder: Holder) -> int:
    """Tokens that are right there, up to the first that is not."""
    total = 0
    for segment in holder.segments:
        valid_len = tier.valid_len(segment.segment_id)
        total += valid_len
        if valid_len != segment.num_tokens:
            break
    return total

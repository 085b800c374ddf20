"""The manager against a model whose bytes are stamps: switches and forks in any order; copies land late or fail."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, PagedAllocator, SwapDirection
from tests.memory.stamped_pools import (
    BLOCK_SIZE,
    POISON,
    Copy,
    PoisoningAllocator,
    Tokens,
    blocks_for,
    leave_nothing_clean,
    stamps_of,
)

DEVICE_BLOCKS = 12
MOST_REQUESTS = 5
MIN_TAIL = 1
PICK = st.integers(0, MOST_REQUESTS - 1)


class ManagerMachine(RuleBasedStateMachine):
    """Requests grow, fork, leave, come back and end in any order; copies land late, in any order, fail, or hang."""

    @initialize(reuse=st.booleans(), paged=st.booleans(), host_blocks=st.sampled_from([5, 9, 16]))
    def make(self, reuse, paged, host_blocks):
        make = PagedAllocator if paged else lambda num_blocks: BlockGroupAllocator(num_blocks, growth_blocks=3)
        self.device = PoisoningAllocator(make(DEVICE_BLOCKS))
        self.host = PoisoningAllocator(make(host_blocks))
        self.kv = KVCacheManager(self.device, self.host, BLOCK_SIZE, reuse=reuse, min_tail=MIN_TAIL)
        self.device.still_read = self.kv.still_read
        self.reuse = reuse
        self.live = {}  # request_id |-> Tokens
        self.copies = []  # under way, those of released requests included
        self.hanging = []  # those of them that are quarantined
        self.put_off = []  # those of them that were aborted, and wait for the one whose blocks they were to write
        self.rank = {}  # request_id |-> position
        self.num_added = 0
        self.may_lose = set()
        self.sealed = set()  # segments that were shared once
        for _ in range(3):
            self.add()
            self.grow_and_commit(-1, 9, 0)

    # What the model knows of segments: it asks the manager only who reads which

    def readers(self):
        """segment_id |-> the live requests that read it."""
        readers = {}
        for request_id in self.live:
            for segment_id in self.kv.segment_ids(request_id):
                readers.setdefault(segment_id, []).append(request_id)
        return readers

    def in_copy(self, segment_id):
        return any(segment_id in copy.segment_ids for copy in self.copies)

    def lens(self, segment_id):
        return self.kv.device.valid_len(segment_id), self.kv.host.valid_len(segment_id)

    def wanted(self, readers):
        return any(self.live[r].resident for r in readers)

    def clean_segments(self):
        found = []
        for segment_id, readers in self.readers().items():
            device_len, host_len = self.lens(segment_id)
            if not self.in_copy(segment_id) and not self.wanted(readers) and device_len <= host_len:
                found.append(segment_id)
        return found

    def rank_of(self, request_id):
        return self.rank.get(request_id, len(self.rank))

    def has_long_tail_below(self, request_id, rank):
        own = self.kv.segment_ids(request_id)[-1]
        return self.kv.host.num_blocks(own) >= MIN_TAIL and self.rank_of(request_id) > rank

    def host_room_for(self, request_id):
        """Host blocks that are free or held by others who may lose them."""
        own = self.kv.segment_ids(request_id)
        rank = self.rank_of(request_id)
        clean, room = self.clean_segments(), self.host.num_free
        for segment_id, readers in self.readers().items():
            if segment_id in own or self.in_copy(segment_id):
                continue
            device_len, host_len = self.lens(segment_id)
            settled = all(self.live[r].resident and self.live[r].copy is None for r in readers)
            redundant = settled if self.wanted(readers) else device_len > host_len
            idle = all(self.live[r].idle for r in readers)
            last = self.kv.segment_ids(readers[0])[-1] == segment_id
            tail = last and self.has_long_tail_below(readers[0], rank)
            if redundant or (segment_id in clean and (idle or tail)):
                room += self.kv.host.num_blocks(segment_id)
        return room

    def relying_on(self, request_id):
        """Evicted requests whose KV is whole only because this one is still there."""
        relying = set()
        for segment_id, readers in self.readers().items():
            device_len, host_len = self.lens(segment_id)
            others = [r for r in readers if r != request_id]
            if request_id in readers and device_len > host_len and not self.wanted(others):
                relying.update(others)
        return relying

    def available(self, request_id):
        """Tokens that are right on one tier at least, or will be when a copy lands, up to the first that is not."""
        leaving = {
            entry.segment_id: entry.end_token
            for copy in self.copies
            if copy.job.direction is SwapDirection.SWAP_OUT
            for entry in copy.job.ranges
        }
        return sum(max(*self.lens(s), leaving.get(s, 0)) for s in self.kv.segment_ids(request_id))

    # Helpers

    def able(self, *, resident):
        """The requests without a job on that side."""
        return [r for r, t in self.live.items() if t.copy is None and t.resident == resident]

    def pick(self, pick, *, resident):
        able = self.able(resident=resident)
        return able[pick % len(able)]

    def snapshot(self):
        kv = self.kv
        counts = (kv.num_free, kv.num_clean, kv.num_vacating, kv.num_host_free)
        copies = {r: (kv.device_copy(r), kv.host_copy(r), kv.is_resident(r), kv.dirty_blocks(r)) for r in self.live}
        return counts, copies, self.device.slots.tolist(), self.host.slots.tolist()

    def attempt(self, fits, act):
        """Do it, or see it refused with nothing changed: the two, and nothing between."""
        before = self.snapshot()
        if fits:
            return act()
        with pytest.raises(OutOfBlocksError):
            act()
        assert self.snapshot() == before
        return None

    def begun(self, request_id, job):
        if job is not None:
            self.live[request_id].copy = Copy(job, self.device, self.host)
            self.copies.append(self.live[request_id].copy)

    # A request's life

    @precondition(lambda self: len(self.live) < MOST_REQUESTS)
    @rule()
    def add(self):
        self.kv.add(self.num_added)
        self.live[self.num_added] = Tokens()
        self.num_added += 1

    @precondition(lambda self: len(self.live) < MOST_REQUESTS and self.able(resident=True) + self.able(resident=False))
    @rule(pick=PICK, resident=st.booleans(), back=st.integers(0, 5))
    def fork(self, pick, resident, back):
        request_id = self.pick(pick, resident=resident if self.able(resident=resident) else not resident)
        parent = self.live[request_id]
        at_token = max(0, parent.kept - back)
        before, end = self.snapshot(), 0
        cut = None
        for segment_id in self.kv.segment_ids(request_id):
            num_tokens = max(self.lens(segment_id))
            last = segment_id == self.kv.segment_ids(request_id)[-1]  # it is sealed even where it ends
            if end < at_token // BLOCK_SIZE * BLOCK_SIZE < end + num_tokens + last:
                cut = segment_id
            end += num_tokens
        if cut is not None and self.in_copy(cut):
            with pytest.raises(ValueError, match="under way: land or abort it first"):
                self.kv.fork(request_id, self.num_added, at_token)
            assert self.snapshot() == before
            return
        shared = self.kv.fork(request_id, self.num_added, at_token)
        assert shared == at_token // BLOCK_SIZE * BLOCK_SIZE
        self.live[self.num_added] = Tokens(parent.stamps[:shared], resident=parent.resident)
        assert self.kv.device_valid_len(self.num_added) == min(shared, self.kv.device_valid_len(request_id))
        num_shared = len(self.kv.segment_ids(self.num_added)) - 1
        assert self.kv.segment_ids(self.num_added)[:-1] == self.kv.segment_ids(request_id)[:num_shared]
        after = self.snapshot()
        assert (after[0][:3], *after[2:]) == (before[0][:3], *before[2:]), "a fork stores nothing"
        self.num_added += 1

    @precondition(lambda self: self.able(resident=True))
    @rule(pick=PICK, num_tokens=st.integers(1, 14), spare=st.integers(0, 6))
    def grow_and_commit(self, pick, num_tokens, spare):
        self.compute(self.pick(pick, resident=True), num_tokens, spare)

    def compute(self, request_id, num_tokens, spare):
        start = self.kv.device_valid_len(request_id)
        end = start + num_tokens
        need = blocks_for(end + spare) - self.kv.device_blocks(request_id)
        fits = need <= self.kv.num_free + self.kv.num_clean

        def act():
            self.kv.grow(request_id, end + spare)
            self.live[request_id].write(self.device, self.kv.block_table(request_id), start, end)
            self.kv.commit(request_id, end)

        self.attempt(fits, act)

    @precondition(lambda self: self.able(resident=True) + self.able(resident=False))
    @rule(pick=PICK, num_back=st.integers(-2, 9), resident=st.booleans())
    def rollback(self, pick, num_back, resident):
        request_id = self.pick(pick, resident=resident if self.able(resident=resident) else not resident)
        num_tokens = max(0, self.live[request_id].kept - num_back)
        lens = [max(self.lens(segment_id)) for segment_id in self.kv.segment_ids(request_id)]
        self.may_lose = self.relying_on(request_id)
        before = self.snapshot()
        try:
            self.kv.rollback(request_id, num_tokens)
        except ValueError:
            assert any(map(self.in_copy, self.kv.segment_ids(request_id)))
            assert self.snapshot() == before
            return
        sealed = num_tokens < sum(lens[:-1])
        kept = num_tokens // BLOCK_SIZE * BLOCK_SIZE if sealed else num_tokens
        self.live[request_id].cut(kept)
        assert self.kv.device_blocks(request_id) <= blocks_for(kept)

    @precondition(lambda self: len(self.able(resident=False)) > 2)
    @rule(pick=PICK)
    def drop(self, pick):
        self.drop_one(self.pick(pick, resident=False))

    def drop_one(self, request_id):
        self.may_lose = self.relying_on(request_id)
        self.kv.drop(request_id)
        self.live[request_id].kept = 0
        self.live[request_id].resident = True
        self.live[request_id].failed = False
        assert self.kv.device_blocks(request_id) == self.kv.host_blocks(request_id) == 0

    @precondition(lambda self: len(self.live) > 3)
    @rule(pick=PICK)
    def release(self, pick):
        """Also in the middle of a copy."""
        request_id = list(self.live)[pick % len(self.live)]
        self.may_lose = self.relying_on(request_id)
        self.kv.release(request_id)
        del self.live[request_id]

    @rule(pick=PICK, idle=st.booleans())
    def turn(self, pick, idle):
        request_id = list(self.live)[pick % len(self.live)]
        (self.kv.finish_turn if idle else self.kv.start_turn)(request_id)
        self.live[request_id].idle = idle

    @rule(random=st.randoms(use_true_random=False), named=st.integers(0, MOST_REQUESTS))
    def prefer(self, random, named):
        order = [*self.live, "unknown"]
        random.shuffle(order)
        self.say_who_matters(order[:named])

    def say_who_matters(self, order):
        self.kv.prefer(order)
        self.rank = {request_id: position for position, request_id in enumerate(order)}

    # Switches

    @precondition(lambda self: self.able(resident=True))
    @rule(pick=PICK, idle=st.booleans(), at_once=st.booleans(), first=st.booleans())
    def swap_out(self, pick, idle, at_once, first):
        request_id = self.pick(pick, resident=True)
        self.turn(list(self.live).index(request_id), idle)
        if first:
            self.say_who_matters(sorted(self.live, key=lambda other: other != request_id))
        self.leave(request_id, at_once=at_once)

    def is_copied_ahead(self, request_id, act):
        """Whether it has to wait for a copy that was begun ahead; then it is refused, and nothing changes."""
        own = self.kv.segment_ids(request_id)[-1]
        ahead = [copy.job.job_id for copy in self.copies if own in copy.segment_ids]
        if not ahead:
            return False
        before = self.snapshot()
        message = f"request {request_id!r} is copied ahead by job {ahead[0]}: go on when that has ended"
        with pytest.raises(ValueError, match=message):
            act(request_id)
        assert self.snapshot() == before
        return True

    @precondition(lambda self: self.able(resident=True))
    @rule(pick=PICK, max_blocks=st.integers(0, 6))
    def write_back(self, pick, max_blocks):
        request_id = self.pick(pick, resident=True)
        dirty = self.kv.dirty_blocks(request_id)
        job = self.kv.begin_write_back(request_id, max_blocks)
        self.begun_ahead(job, dirty, max_blocks)

    @precondition(lambda self: self.able(resident=False))
    @rule(pick=PICK, max_blocks=st.integers(0, 6), after_shortage=st.booleans())
    def prefetch(self, pick, max_blocks, after_shortage):
        if after_shortage:
            leave_nothing_clean(self.kv)
        request_id = self.pick(pick, resident=False)
        missing = self.kv.missing_blocks(request_id)
        job = self.kv.begin_prefetch(request_id, max_blocks)
        self.begun_ahead(job, missing, max_blocks)

    def begun_ahead(self, job, lacking, max_blocks):
        num_blocks = 0 if job is None else job.num_blocks
        assert num_blocks <= min(lacking, max_blocks)
        if job is not None:
            self.copies.append(Copy(job, self.device, self.host))

    def leave(self, request_id, *, at_once):
        if self.is_copied_ahead(request_id, self.kv.begin_swap_out):
            return
        dirty = self.kv.dirty_blocks(request_id)
        segment_ids = self.kv.segment_ids(request_id)
        need = sum(
            max(0, blocks_for(self.lens(s)[0]) - self.kv.host.num_blocks(s)) for s in segment_ids if not self.in_copy(s)
        )
        rank = self.rank_of(request_id)
        evicted = {r for r, t in self.live.items() if not t.resident}
        may_lose = {r for r in evicted if self.live[r].idle or self.has_long_tail_below(r, rank)}

        def act():
            job = self.kv.begin_swap_out(request_id)
            self.may_lose = may_lose
            self.live[request_id].resident = False
            assert (0 if job is None else job.num_blocks) == dirty
            self.begun(request_id, job)
            if job is not None and at_once:
                self.note_losses()
                self.end_copy(-1, failed=False)

        self.attempt(need <= self.host_room_for(request_id), act)

    @precondition(lambda self: self.able(resident=False))
    @rule(pick=PICK, spare=st.integers(0, 6), after_shortage=st.booleans(), early=st.booleans())
    def swap_in(self, pick, spare, after_shortage, early):
        request_id = self.pick(pick, resident=False)
        if after_shortage:
            leave_nothing_clean(self.kv)
        self.come_back(request_id, spare, early=early)

    @precondition(lambda self: self.able(resident=True) and self.able(resident=False))
    @rule(pick=PICK, other=PICK, spare=st.integers(0, 6), left=st.integers(0, 1))
    def change_places(self, pick, other, spare, left):
        """One that fills the device leaves, and the other takes its blocks while they are copied."""
        leaving, coming = self.pick(pick, resident=True), self.pick(other, resident=False)
        leave_nothing_clean(self.kv)
        if self.kv.num_free > left:
            self.compute(leaving, (self.kv.num_free - left) * BLOCK_SIZE, 0)
        self.leave(leaving, at_once=False)
        self.note_losses()
        if not self.live[coming].resident and self.live[coming].copy is None:
            self.come_back(coming, spare, early=True)

    def blocks_to_hand_over(self):
        """Device blocks that swap-outs under way read, for requests that nobody shares them with."""
        total = 0
        for copy in self.copies:
            if copy.job.direction is SwapDirection.SWAP_OUT and copy not in self.hanging:
                readers = self.readers()
                for segment_id in copy.segment_ids:
                    who = readers.get(segment_id, [])
                    own = [r for r in who if self.kv.segment_ids(r)[-1] == segment_id and self.live[r].copy is copy]
                    released = not who and segment_id not in self.sealed
                    total += self.kv.device.num_blocks(segment_id) * bool(own or released)
        return total

    def missing(self, segment_id):
        """Device blocks that a sealed segment lacks."""
        return blocks_for(max(self.lens(segment_id))) - self.kv.device.num_blocks(segment_id)

    def come_back(self, request_id, spare, *, early=False):
        if self.is_copied_ahead(request_id, lambda request_id: self.kv.begin_swap_in(request_id, 0)):
            return
        coming = [job for job in self.kv.jobs(request_id) if job.direction is SwapDirection.SWAP_IN]
        if coming:
            message = f"request {request_id!r} shares KV that job {coming[0].job_id} brings in: wait for it first"
            with pytest.raises(ValueError, match=message):
                self.kv.begin_swap_in(request_id, 0)
            return
        segment_ids = self.kv.segment_ids(request_id)
        lacking = [s for s in segment_ids if self.lens(s)[0] < self.lens(s)[1] and not self.in_copy(s)]
        wanted = self.available(request_id) + spare
        own = self.kv.device_blocks(request_id)
        clean = [s for s in self.clean_segments() if s not in segment_ids]
        room = self.kv.num_free + sum(map(self.kv.device.num_blocks, clean))
        need, now = blocks_for(wanted) - own, room
        wants_more = {s for s in segment_ids[:-1] if blocks_for(max(self.lens(s))) > self.kv.device.num_blocks(s)}
        wants_more |= {segment_ids[-1]} if need > sum(self.missing(s) for s in wants_more) else set()
        if early and wants_more <= set(lacking):
            room += self.blocks_to_hand_over()

        def act():
            job = self.kv.begin_swap_in(request_id, wanted, early=early)
            assert bool(job is not None and job.after) == (need > now)
            self.live[request_id].resident = True
            self.live[request_id].failed = False
            assert (job is None) == (not lacking)
            assert self.kv.device_blocks(request_id) == max(own, blocks_for(wanted))
            self.begun(request_id, job)

        self.attempt(need <= room, act)

    @precondition(lambda self: self.able(resident=False))
    @rule(pick=PICK, num_tokens=st.integers(1, 9))
    def another_turn(self, pick, num_tokens):
        """As far as there is room: back, a few tokens, and out again."""
        request_id = self.pick(pick, resident=False)
        self.come_back(request_id, 0)
        if request_id in self.able(resident=True):
            self.compute(request_id, num_tokens, 0)
            self.leave(request_id, at_once=True)

    @precondition(lambda self: self.copies)
    @rule(pick=PICK, num_blocks=st.integers(1, 4))
    def copy_some(self, pick, num_blocks):
        copy = self.copies[pick % len(self.copies)]
        if copy not in self.put_off and not self.before(copy):
            copy.move(num_blocks)

    def before(self, copy):
        """Those that the copy must come after."""
        return [other for other in self.copies if other.job in copy.job.after]

    @precondition(lambda self: self.copies)
    @rule(pick=PICK, failed=st.sampled_from([False, False, False, True]))
    def end_copy(self, pick, failed):
        copy = self.copies[pick % len(self.copies)]
        if copy in self.put_off:
            return
        if self.before(copy):
            self.end_too_early(copy, failed=failed)
            return
        self.copies.remove(copy)
        if copy in self.hanging:
            self.hanging.remove(copy)
        tokens = next((t for t in self.live.values() if t.copy is copy), None)
        if failed and self.kv.still_read(self.source_blocks(copy)).any():
            self.may_lose |= {r for r, t in self.live.items() if t.copy is copy}
        if failed:
            if copy.job.direction is SwapDirection.SWAP_OUT and tokens is None:
                self.may_lose = {r for s in copy.segment_ids for r in self.readers().get(s, ())}
            self.kv.abort(copy.job)
        else:
            copy.move(len(copy.todo))
            self.kv.land(copy.job)
        ready = [other for other in self.put_off if not self.before(other)]
        for other in ready:
            for waiting in (self.put_off, self.copies, self.hanging):
                waiting.remove(other)
        if tokens is None:
            return
        tokens.copy = None
        tokens.failed = failed and copy.job.direction is SwapDirection.SWAP_OUT
        tokens.resident = tokens.resident and not failed
        if failed:
            for segment_id in copy.segment_ids & self.readers().keys():
                held = copy.destination.num_owned(segment_id)
                assert held == blocks_for(self.lens(segment_id)[copy.destination is self.host])
        elif tokens.resident and not self.reuse:
            request_id = next(r for r, t in self.live.items() if t is tokens)
            for segment_id in self.kv.segment_ids(request_id):
                readers = self.readers()[segment_id]
                settled = all(self.live[r].resident and self.live[r].copy is None for r in readers)
                assert self.in_copy(segment_id) or not settled or not self.kv.host.num_blocks(segment_id)

    def source_blocks(self, copy):
        return np.array([src for src, _ in copy.pairs], np.int32)

    def end_too_early(self, copy, *, failed):
        """What it writes is still read: it cannot land, and its blocks stay where they are until then."""
        if not failed:
            before = self.before(copy)[0].job.job_id
            message = f"job {copy.job.job_id} comes after job {before}, which is under way: land or abort that first"
            with pytest.raises(ValueError, match=message):
                self.kv.land(copy.job)
            return
        self.go_on_without(copy, self.kv.abort)
        self.put_off.append(copy)

    @precondition(lambda self: any(t.copy for t in self.live.values()) and not self.hanging)
    @rule(pick=PICK)
    def quarantine(self, pick):
        """A copy hangs: everybody goes on without it, and it ends much later."""
        moving = [r for r, t in self.live.items() if t.copy is not None]
        request_id = moving[pick % len(moving)]
        self.go_on_without(self.live[request_id].copy, self.kv.quarantine)

    def go_on_without(self, copy, act):
        request_id = next((r for r, t in self.live.items() if t.copy is copy), None)
        readers = {r for s in copy.segment_ids for r in self.readers().get(s, ())}
        if copy not in self.hanging:
            self.may_lose = self.relying_on(request_id)
            for reader in readers:
                if reader == request_id or not self.live[reader].resident:
                    self.live[reader].kept = 0
                    self.may_lose |= self.relying_on(reader)
            self.hanging.append(copy)
        act(copy.job)
        if request_id is not None:
            self.live[request_id].copy = None
            self.live[request_id].resident = True

    # What always holds

    def note_losses(self):
        """Who may have lost KV has no more than before, and may have less."""
        for request_id in self.may_lose & self.live.keys():
            assert self.available(request_id) <= self.live[request_id].kept
            self.live[request_id].kept = self.available(request_id)
        self.may_lose = set()

    @invariant()
    def consistent(self):
        self.kv.check_invariants()
        self.sealed |= {s for r in self.live for s in self.kv.segment_ids(r)[:-1]}
        for copy in self.copies:
            copy.check_blocks_are_its_own()

    @invariant()
    def nothing_is_lost_but_by_the_rules(self):
        self.note_losses()
        for request_id, tokens in self.live.items():
            assert self.available(request_id) == tokens.kept
            if tokens.resident and tokens.copy is None:
                assert self.kv.device_valid_len(request_id) == tokens.kept

    @invariant()
    def bytes_are_right(self):
        for request_id, tokens in self.live.items():
            start = 0
            copies = zip(self.kv.device_copy(request_id), self.kv.host_copy(request_id), strict=True)
            for on_device, on_host in copies:
                for tier, kv_copy in ((self.device, on_device), (self.host, on_host)):
                    assert stamps_of(tier, kv_copy) == tokens.stamps[start : start + kv_copy.valid_len]
                start += max(on_device.valid_len, on_host.valid_len)

    @invariant()
    def nothing_is_written_outside_owned_blocks(self):
        for tier, held in ((self.device, self.kv.device), (self.host, self.kv.host)):
            free = set(range(tier.num_blocks)).difference(*(held.block_ids(s).tolist() for s in held.segment_ids))
            assert len(free) == tier.num_free
            assert (tier.slots[sorted(free)] == POISON).all()

    @invariant()
    def every_block_has_a_reader_or_a_copy(self):
        expected = self.readers().keys() | {s for copy in self.copies for s in copy.segment_ids}
        for tier in (self.kv.device, self.kv.host):
            assert tier.segment_ids <= expected

    @invariant()
    def nobody_sits_on_blocks(self):
        """What no resident request reads can be had, now or when a copy ends; but for one whose copy has failed."""
        clean = self.clean_segments()
        for segment_id, readers in self.readers().items():
            if self.kv.device.num_blocks(segment_id) and not self.wanted(readers):
                deciding = any(self.live[r].failed for r in readers)
                assert segment_id in clean or self.in_copy(segment_id) or deciding

    @invariant()
    def counts_are_right(self):
        kv, blocks, readers = self.kv, self.kv.device.num_blocks, self.readers()
        vacating = {
            s
            for copy in self.copies
            if copy not in self.hanging
            for s in copy.segment_ids
            if not self.wanted(readers.get(s, ()))
        }
        assert kv.num_clean == sum(map(blocks, self.clean_segments()))
        hanging = {s for copy in self.hanging for s in copy.segment_ids}
        flying = {s for copy in self.copies for s in copy.segment_ids} - hanging
        for tier, now in ((kv.device, kv.statistics().device), (kv.host, kv.statistics().host)):
            assert now.pool.num_free + now.held + now.clean + now.in_flight + now.quarantined == now.pool.num_blocks
            assert now.in_flight == sum(map(tier.num_blocks, flying))
            assert now.quarantined == sum(map(tier.num_blocks, hanging))
            assert now.shared == sum(tier.num_blocks(s) for s, who in readers.items() if len(who) > 1)
            assert now.held >= 0
        assert kv.num_vacating == sum(map(blocks, vacating))
        for request_id, tokens in self.live.items():
            assert kv.is_resident(request_id) == (tokens.resident and tokens.copy is None)
            dirty = 0
            for segment_id in kv.segment_ids(request_id):
                on_device, on_host = self.lens(segment_id)
                if on_device > on_host and not self.in_copy(segment_id):
                    dirty += blocks_for(on_device) - on_host // BLOCK_SIZE
            assert kv.dirty_blocks(request_id) == dirty
            for tier, valid_len in ((kv.device, kv.device_valid_len), (kv.host, kv.host_valid_len)):
                lens = [(tier.valid_len(s), max(self.lens(s))) for s in kv.segment_ids(request_id)]
                holes = [i for i, (here, whole) in enumerate(lens) if here < whole]
                assert valid_len(request_id) == sum(here for here, _ in lens[: holes[0] + 1 if holes else None])
            tables = [kv.device.block_ids(s).tolist() for s in kv.segment_ids(request_id)]
            assert kv.block_table(request_id).tolist() == [block_id for table in tables for block_id in table]

    def teardown(self):
        if not hasattr(self, "kv"):
            return
        for request_id in list(self.live)[::2]:
            self.kv.release(request_id)
            del self.live[request_id]
        going = [copy for copy in self.copies if copy not in self.put_off]
        for number, copy in enumerate(going):
            (self.kv.land if number % 2 else self.kv.abort)(copy.job)
        for request_id in self.live:
            self.kv.release(request_id)
        self.kv.check_invariants()
        assert (self.device.num_free, self.host.num_free) == (DEVICE_BLOCKS, self.host.num_blocks)


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=300, stateful_step_count=50)

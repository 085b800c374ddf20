"""The manager against a model whose bytes are stamps: switches in any order, copies that land late or fail half-way."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, PagedAllocator
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
PICK = st.integers(0, MOST_REQUESTS - 1)


class ManagerMachine(RuleBasedStateMachine):
    """Requests grow, leave, come back and end in any order; copies land late, in any order, or fail half-way."""

    @initialize(reuse=st.booleans(), paged=st.booleans(), host_blocks=st.sampled_from([5, 9, 16]))
    def make(self, reuse, paged, host_blocks):
        make = PagedAllocator if paged else lambda num_blocks: BlockGroupAllocator(num_blocks, growth_blocks=3)
        self.device = PoisoningAllocator(make(DEVICE_BLOCKS))
        self.host = PoisoningAllocator(make(host_blocks))
        self.kv = KVCacheManager(self.device, self.host, BLOCK_SIZE, reuse=reuse)
        self.reuse = reuse
        self.live = {}  # request_id |-> Tokens
        self.copies = []  # under way, those of released requests included
        self.num_added = 0
        for _ in range(3):
            self.add()
            self.grow_and_commit(-1, 9, 0)

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

    def is_clean(self, request_id):
        lacking = self.kv.device_valid_len(request_id) > self.kv.host_valid_len(request_id)
        return not self.live[request_id].resident and self.live[request_id].copy is None and not lacking

    def host_room_for(self, request_id):
        """Host blocks that are free or held by others who may lose them."""
        others = {r: t for r, t in self.live.items() if r != request_id and t.copy is None}
        victims = [r for r, t in others.items() if t.idle or not self.is_clean(r)]
        return self.host.num_free + sum(self.host.num_owned(r) for r in victims)

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
            self.live[request_id].write(self.device, request_id, start, end)
            self.kv.commit(request_id, end)

        self.attempt(fits, act)

    @precondition(lambda self: self.able(resident=True) + self.able(resident=False))
    @rule(pick=PICK, num_back=st.integers(-2, 9), resident=st.booleans())
    def rollback(self, pick, num_back, resident):
        request_id = self.pick(pick, resident=resident if self.able(resident=resident) else not resident)
        num_tokens = max(0, self.live[request_id].kept - num_back)
        self.kv.rollback(request_id, num_tokens)
        self.live[request_id].cut(num_tokens)
        assert self.kv.device_blocks(request_id) <= blocks_for(num_tokens)

    @precondition(lambda self: len(self.able(resident=False)) > 2)
    @rule(pick=PICK)
    def drop(self, pick):
        request_id = self.pick(pick, resident=False)
        self.kv.drop(request_id)
        self.live[request_id].kept = 0
        self.live[request_id].resident = True
        assert self.kv.device_blocks(request_id) == self.host.num_owned(request_id) == 0

    @precondition(lambda self: len(self.live) > 3)
    @rule(pick=PICK)
    def release(self, pick):
        """Also in the middle of a copy."""
        request_id = list(self.live)[pick % len(self.live)]
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
        self.kv.prefer(order[:named])

    # Switches

    @precondition(lambda self: self.able(resident=True))
    @rule(pick=PICK, idle=st.booleans(), at_once=st.booleans())
    def swap_out(self, pick, idle, at_once):
        request_id = self.pick(pick, resident=True)
        self.turn(list(self.live).index(request_id), idle)
        self.leave(request_id, at_once=at_once)

    def leave(self, request_id, *, at_once):
        dirty = self.kv.dirty_blocks(request_id)
        need = blocks_for(self.kv.device_valid_len(request_id)) - self.host.num_owned(request_id)

        def act():
            job = self.kv.begin_swap_out(request_id)
            self.live[request_id].resident = False
            assert (0 if job is None else job.num_blocks) == dirty
            self.begun(request_id, job)
            if job is not None and at_once:
                self.end_copy(-1, failed=False)

        self.attempt(need <= self.host_room_for(request_id), act)

    @precondition(lambda self: self.able(resident=False))
    @rule(pick=PICK, spare=st.integers(0, 6), after_shortage=st.booleans())
    def swap_in(self, pick, spare, after_shortage):
        request_id = self.pick(pick, resident=False)
        if after_shortage:
            leave_nothing_clean(self.kv)
        self.come_back(request_id, spare)

    def come_back(self, request_id, spare):
        on_device, on_host = self.kv.device_valid_len(request_id), self.kv.host_valid_len(request_id)
        wanted = max(on_device, on_host) + spare
        own = self.kv.device_blocks(request_id)
        clean = self.kv.num_clean - (own if self.is_clean(request_id) else 0)

        def act():
            job = self.kv.begin_swap_in(request_id, wanted)
            self.live[request_id].resident = True
            assert (job is None) == (on_device >= on_host)
            assert self.kv.device_blocks(request_id) == max(own, blocks_for(wanted))
            self.begun(request_id, job)

        self.attempt(blocks_for(wanted) - own <= self.kv.num_free + clean, act)

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
        self.copies[pick % len(self.copies)].move(num_blocks)

    @precondition(lambda self: self.copies)
    @rule(pick=PICK, failed=st.sampled_from([False, False, False, True]))
    def end_copy(self, pick, failed):
        copy = self.copies.pop(pick % len(self.copies))
        request_id = copy.job.request_id
        if failed:
            self.kv.abort(copy.job)
        else:
            copy.move(len(copy.todo))
            self.kv.land(copy.job)
        tokens = self.live.get(request_id)
        if tokens is None:
            return
        tokens.copy = None
        tokens.resident = tokens.resident and not failed
        if failed:
            (kept,) = (self.kv.device_copy if copy.destination is self.device else self.kv.host_copy)(request_id)
            assert copy.destination.num_owned(request_id) == blocks_for(kept.valid_len)
        if tokens.resident and not self.reuse:
            assert self.kv.host_copy(request_id)[0].groups == ()

    # What always holds

    @invariant()
    def consistent(self):
        self.kv.check_invariants()
        for copy in self.copies:
            copy.check_blocks_are_its_own()

    @invariant()
    def bytes_are_right(self):
        for request_id, tokens in self.live.items():
            (on_device,), (on_host,) = self.kv.device_copy(request_id), self.kv.host_copy(request_id)
            assert stamps_of(self.device, on_device) == tokens.stamps[: on_device.valid_len]
            assert stamps_of(self.host, on_host) == tokens.stamps[: on_host.valid_len]

    @invariant()
    def nothing_is_lost_but_idle_conversations(self):
        for request_id, tokens in self.live.items():
            on_device, on_host = self.kv.device_valid_len(request_id), self.kv.host_valid_len(request_id)
            if tokens.idle and not tokens.resident and tokens.copy is None and on_device == on_host == 0:
                tokens.kept = 0
            assert max(on_device, on_host) == tokens.kept
            if tokens.resident and tokens.copy is None:
                assert on_device == tokens.kept

    @invariant()
    def nothing_is_written_outside_owned_blocks(self):
        owners = [*self.live, *(copy.job.request_id for copy in self.copies)]
        for tier in (self.device, self.host):
            free = set(range(tier.num_blocks)).difference(
                *(tier.block_ids(r).tolist() for r in owners if tier.num_owned(r))
            )
            assert len(free) == tier.num_free
            assert (tier.slots[sorted(free)] == POISON).all()

    @invariant()
    def counts_are_right(self):
        kv, owned = self.kv, self.device.num_owned
        clean = [r for r in self.live if self.is_clean(r)]
        leaving = {copy.job.request_id for copy in self.copies} - self.live.keys()
        vacating = [r for r, t in self.live.items() if t.copy is not None and not t.resident]
        assert kv.num_clean == sum(map(owned, clean))
        assert kv.num_vacating == sum(map(owned, (*leaving, *vacating)))
        rest = sum(owned(r) for r in self.live if r not in {*clean, *vacating})
        assert kv.num_free + kv.num_clean + kv.num_vacating + rest == DEVICE_BLOCKS
        for request_id, tokens in self.live.items():
            assert kv.is_resident(request_id) == (tokens.resident and tokens.copy is None)
            on_device, on_host = kv.device_valid_len(request_id), kv.host_valid_len(request_id)
            dirty = blocks_for(on_device) - on_host // BLOCK_SIZE if on_device > on_host else 0
            assert kv.dirty_blocks(request_id) == dirty
            assert kv.block_table(request_id).tolist() == (
                self.device.block_ids(request_id).tolist() if owned(request_id) else []
            )

    def teardown(self):
        if not hasattr(self, "kv"):
            return
        for request_id in list(self.live)[::2]:
            self.kv.release(request_id)
            del self.live[request_id]
        for copy in self.copies[::2]:
            self.kv.abort(copy.job)
        for copy in self.copies[1::2]:
            self.kv.land(copy.job)
        for request_id in self.live:
            self.kv.release(request_id)
        self.kv.check_invariants()
        assert (self.device.num_free, self.host.num_free) == (DEVICE_BLOCKS, self.host.num_blocks)


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=400, stateful_step_count=50)

"""The manager against a model whose bytes are stamps, then what it promises, one example each."""

import re

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, PagedAllocator, SwapDirection
from fastswitch.memory.segment import Segment
from tests.memory.stamped_pools import (
    BLOCK_SIZE,
    POISON,
    Copy,
    PoisoningAllocator,
    Tokens,
    blocks_for,
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


def manager(device=12, host=16, *, reuse=True):
    return KVCacheManager(BlockGroupAllocator(device), BlockGroupAllocator(host), BLOCK_SIZE, reuse=reuse)


def compute(kv, request_id, num_tokens):
    kv.grow(request_id, num_tokens)
    kv.commit(request_id, num_tokens)


def add(kv, request_id, num_tokens):
    kv.add(request_id)
    compute(kv, request_id, num_tokens)


def land(kv, job):
    kv.land(job)
    kv.check_invariants()


def evict(kv, request_id):
    land(kv, kv.begin_swap_out(request_id))


def leave_nothing_clean(kv):
    """Somebody needs the room of everyone who is clean, and ends at once."""
    kv.add("hungry")
    kv.grow("hungry", (kv.num_free + kv.num_clean) * BLOCK_SIZE)
    kv.release("hungry")


class TestIncrement:
    def test_second_swap_out_moves_only_what_is_new(self):
        kv = manager()
        add(kv, "a", 8)
        first = kv.begin_swap_out("a")
        land(kv, first)
        assert kv.begin_swap_in("a", 16) is None
        compute(kv, "a", 16)
        second = kv.begin_swap_out("a")
        assert first.runs.tolist() == [[0, 0, 2]]
        assert second.runs.tolist() == [[2, 2, 2]]
        assert [(entry.start_token, entry.end_token) for entry in second.ranges] == [(8, 16)]

    def test_partly_filled_last_block_is_copied_again_when_it_grew(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.begin_swap_in("a", 11)
        compute(kv, "a", 11)
        job = kv.begin_swap_out("a")
        assert job.runs.tolist() == [[2, 2, 1]]
        assert [(entry.start_token, entry.end_token) for entry in job.ranges] == [(10, 11)]

    def test_swap_in_copies_only_what_the_device_lost(self):
        # 140 blocks: the first 64 stay, since a tail is cut in pieces of at least 64
        kv = manager(device=140, host=160)
        add(kv, "a", 140 * BLOCK_SIZE)
        evict(kv, "a")
        add(kv, "b", BLOCK_SIZE)
        kv.release("b")
        job = kv.begin_swap_in("a", 140 * BLOCK_SIZE)
        assert kv.num_free == 0
        assert job.runs.tolist() == [[76, 76, 64]]

    def test_without_reuse_everything_is_copied_again(self):
        kv = manager(reuse=False)
        add(kv, "a", 10)
        evict(kv, "a")
        assert kv.begin_swap_in("a", 10) is None
        assert kv.host_copy("a")[0].groups == ()
        job = kv.begin_swap_out("a")
        assert job.num_blocks == 3
        land(kv, job)
        leave_nothing_clean(kv)
        back = kv.begin_swap_in("a", 10)
        assert (back.direction, back.num_blocks, kv.host_valid_len("a")) == (SwapDirection.SWAP_IN, 3, 10)
        land(kv, back)
        assert kv.host_valid_len("a") == 0

    def test_with_reuse_the_host_copy_is_kept(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        leave_nothing_clean(kv)
        land(kv, kv.begin_swap_in("a", 10))
        assert (kv.device_valid_len("a"), kv.host_valid_len("a"), kv.dirty_blocks("a")) == (10, 10, 0)


class TestClean:
    def test_eviction_and_return_cost_nothing(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        table = kv.block_table("a").tolist()
        assert (kv.num_clean, kv.is_resident("a")) == (3, False)
        assert kv.begin_swap_in("a", 10) is None
        assert (kv.num_clean, kv.is_resident("a"), kv.block_table("a").tolist()) == (0, True, table)
        assert kv.begin_swap_out("a") is None
        assert kv.num_clean == 3

    def test_nothing_is_clean_before_its_copy_has_landed(self):
        kv = manager()
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (9, 0, 3)
        assert (kv.host_valid_len("a"), len(kv.host_copy("a")[0].groups)) == (0, 1)
        kv.add("b")
        with pytest.raises(OutOfBlocksError):
            kv.grow("b", 10 * BLOCK_SIZE)
        land(kv, job)
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (9, 3, 0)
        kv.grow("b", 10 * BLOCK_SIZE)

    def test_unwritten_room_is_given_back_at_once(self):
        kv = manager()
        add(kv, "a", 10)
        kv.grow("a", 24)
        assert kv.num_free == 6
        kv.begin_swap_out("a")
        assert kv.num_free == 9

    def test_is_given_back_lowest_rank_first(self):
        kv = manager()
        for request_id in "abc":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.prefer(["b", "a", "c"])
        kv.add("d")
        kv.grow("d", 4)
        assert [kv.device_blocks(r) for r in "abc"] == [4, 4, 0]
        kv.grow("d", 20)
        assert [kv.device_blocks(r) for r in "abc"] == [0, 4, 0]
        assert [kv.host_valid_len(r) for r in "abc"] == [16, 16, 16]

    def test_unnamed_ones_give_before_all_named_ones(self):
        kv = manager()
        for request_id in "abc":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.prefer(["b", "nobody", "b", "b", "a"])
        kv.add("d")
        kv.grow("d", 4)
        assert [kv.device_blocks(r) for r in "abc"] == [4, 4, 0]

    def test_a_request_that_comes_back_does_not_feed_on_itself(self):
        kv = manager()
        for request_id in "ab":
            add(kv, request_id, 24)
            evict(kv, request_id)
        kv.prefer(["b", "a"])
        assert kv.begin_swap_in("a", 28) is None
        assert [kv.device_blocks(r) for r in "ab"] == [7, 0]


class TestHostShortage:
    def filled(self):
        """Host full: a is resident, b idle and clean, c idle and clean, d swapped and not idle; 4 blocks each."""
        kv = manager(device=24, host=16)
        for request_id in "abcd":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.begin_swap_in("a", 16)
        kv.finish_turn("b")
        kv.finish_turn("c")
        add(kv, "e", 16)
        return kv

    def held_on_host(self, kv):
        return "".join(r for r in "abcde" if kv.host_copy(r)[0].groups)

    def test_redundant_copies_go_first_then_idle_ones_lowest_rank_first(self):
        kv = self.filled()
        kv.prefer(["a", "b", "c", "d", "e"])
        assert (self.held_on_host(kv), kv.num_host_free) == ("abcd", 12)
        evict(kv, "e")
        assert (self.held_on_host(kv), kv.num_host_free) == ("bcde", 8)
        assert kv.dirty_blocks("a") == 4
        evict(kv, "a")
        assert (self.held_on_host(kv), kv.num_host_free) == ("abde", 4)
        assert (kv.device_valid_len("c"), kv.host_valid_len("c")) == (0, 0)

    def test_the_best_ranked_loses_its_redundant_copy_first(self):
        kv = self.filled()
        kv.begin_swap_in("d", 16)
        kv.prefer(["d", "a", "e"])
        evict(kv, "e")
        assert self.held_on_host(kv) == "abce"

    def test_who_waits_to_go_on_loses_nothing(self):
        kv = manager(device=24, host=16)
        for request_id in "abcd":
            add(kv, request_id, 16)
            evict(kv, request_id)
        add(kv, "e", 16)
        assert kv.num_host_free == 0
        with pytest.raises(OutOfBlocksError):
            kv.begin_swap_out("e")
        assert [kv.host_valid_len(r) for r in "abcd"] == [16, 16, 16, 16]
        assert kv.is_resident("e")

    def test_what_a_job_reads_or_writes_is_not_touched(self):
        kv = manager(device=24, host=8)
        for request_id in "ab":
            add(kv, request_id, 16)
            evict(kv, request_id)
            kv.finish_turn(request_id)
        leave_nothing_clean(kv)
        reading = kv.begin_swap_in("a", 16)
        kv.begin_swap_in("b", 16)
        add(kv, "c", 4)
        before = kv.device_copy("a"), kv.host_copy("a"), kv.device_copy("b"), kv.host_copy("b")
        with pytest.raises(OutOfBlocksError):
            kv.begin_swap_out("c")
        assert (kv.device_copy("a"), kv.host_copy("a"), kv.device_copy("b"), kv.host_copy("b")) == before
        land(kv, reading)
        evict(kv, "c")
        assert kv.host_copy("a")[0].groups == ()

    def test_after_a_failed_swap_out_the_old_host_copy_is_redundant(self):
        kv = manager(device=24, host=4)
        add(kv, "a", 8)
        evict(kv, "a")
        kv.begin_swap_in("a", 8)
        compute(kv, "a", 12)
        kv.abort(kv.begin_swap_out("a"))
        kv.finish_turn("a")
        add(kv, "b", 16)
        evict(kv, "b")
        assert (kv.device_valid_len("a"), kv.host_valid_len("a"), kv.num_clean) == (12, 0, 4)


class TestEnds:
    def test_a_failed_swap_out_changes_nothing_but_that_it_is_evicted(self):
        kv = manager()
        add(kv, "a", 10)
        before = kv.device_copy("a"), kv.host_copy("a"), kv.num_free, kv.host.num_free
        kv.abort(kv.begin_swap_out("a"))
        assert (kv.device_copy("a"), kv.host_copy("a"), kv.num_free, kv.host.num_free) == before
        assert (kv.is_resident("a"), kv.num_clean, kv.num_vacating) == (False, 0, 0)
        assert kv.begin_swap_in("a", 10) is None
        assert kv.device_valid_len("a") == 10

    def test_a_failed_swap_in_gives_its_room_back(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        leave_nothing_clean(kv)
        kv.abort(kv.begin_swap_in("a", 20))
        assert (kv.num_free, kv.host_valid_len("a"), kv.is_resident("a")) == (12, 10, False)
        land(kv, kv.begin_swap_in("a", 20))
        assert kv.device_valid_len("a") == 10

    @pytest.mark.parametrize("end", [KVCacheManager.land, KVCacheManager.abort])
    def test_released_blocks_stay_until_the_job_has_ended(self, end):
        kv = manager()
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        kv.release("a")
        assert (kv.num_free, kv.host.num_free, kv.num_vacating) == (9, 13, 3)
        end(kv, job)
        kv.check_invariants()
        assert (kv.num_free, kv.host.num_free, kv.num_vacating) == (12, 16, 0)

    def test_dropped_is_resident_with_nothing(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.drop("a")
        assert (kv.is_resident("a"), kv.num_free, kv.host.num_free) == (True, 12, 16)
        compute(kv, "a", 10)

    def test_rollback_cuts_both_tiers(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.rollback("a", 5)
        assert (kv.device_valid_len("a"), kv.host_valid_len("a")) == (5, 5)
        assert (kv.num_clean, kv.num_free, kv.host.num_free) == (2, 10, 14)


class TestSeveralSegments:
    """A request that reads a prefix segment and then its own, as sharing will make them."""

    @pytest.fixture
    def kv(self):
        kv = manager()
        kv.add("a")
        kv._roster._segments["a"] = (Segment("prefix"), *kv._roster.of("a"))
        kv.device.hold("prefix", 8)
        kv.device.mark_valid("prefix", 8)
        return kv

    def test_moves_both_in_token_order(self, kv):
        compute(kv, "a", 14)
        assert kv.block_table("a").tolist() == [*kv.device.block_ids("prefix"), *kv.device.block_ids("a")]
        job = kv.begin_swap_out("a")
        assert [(e.segment_id, e.start_token, e.end_token) for e in job.ranges] == [("prefix", 0, 8), ("a", 0, 6)]
        assert job.num_blocks == 4
        land(kv, job)
        assert kv.host_valid_len("a") == 14

    def test_is_never_half_on_its_way(self, kv):
        compute(kv, "a", 14)
        evict(kv, "a")
        kv.device.cut("a", 0)
        job = kv.begin_swap_in("a", 14)
        assert [(e.start_token, e.end_token) for e in job.ranges] == [(8, 8), (0, 6)]
        kv.abort(job)
        kv.check_invariants()
        land(kv, kv.begin_swap_in("a", 14))
        assert (kv.device_valid_len("a"), kv.is_resident("a")) == (14, True)

    def test_one_that_lacks_nothing_is_held_up_with_the_others(self, kv):
        evict(kv, "a")
        kv.begin_swap_in("a", 8)
        compute(kv, "a", 14)
        job = kv.begin_swap_out("a")
        assert [(e.start_token, e.end_token) for e in job.ranges] == [(8, 8), (0, 6)]
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (8, 0, 4)
        land(kv, job)
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (8, 4, 0)

    def test_rollback_into_the_first(self, kv):
        compute(kv, "a", 14)
        kv.rollback("a", 11)
        assert [copy.valid_len for copy in kv.device_copy("a")] == [8, 3]
        kv.rollback("a", 5)
        assert [copy.valid_len for copy in kv.device_copy("a")] == [5, 0]


class TestErrors:
    def raises(self, error, message):
        return pytest.raises(error, match=f"^{re.escape(message)}$")

    def test_full_device(self):
        kv = manager()
        add(kv, "a", 16)
        evict(kv, "a")
        add(kv, "b", 24)
        message = "need 7 blocks, 2 of 12 are free and 4 can be reclaimed"
        with self.raises(OutOfBlocksError, message):
            kv.grow("b", 24 + 7 * BLOCK_SIZE)
        kv.begin_swap_out("b")
        with self.raises(OutOfBlocksError, "need 3 blocks, 2 of 12 are free and 0 can be reclaimed"):
            kv.begin_swap_in("a", 28)

    def test_full_host(self):
        kv = manager(host=2)
        add(kv, "a", 9)
        with self.raises(OutOfBlocksError, "need 3 blocks, 2 of 2 are free and 0 can be reclaimed"):
            kv.begin_swap_out("a")

    def test_wrong_request(self):
        kv = manager()
        add(kv, "a", 4)
        with self.raises(ValueError, "request 'a' is known already"):
            kv.add("a")
        with self.raises(KeyError, repr("request 'b' is unknown: add it first")):
            kv.grow("b", 1)
        with self.raises(KeyError, repr("request 'b' is unknown: add it first")):
            kv.release("b")

    def test_wrong_side(self):
        kv = manager()
        add(kv, "a", 4)
        with self.raises(ValueError, "request 'a' is resident"):
            kv.begin_swap_in("a", 4)
        evict(kv, "a")
        for act in (kv.begin_swap_out, lambda r: kv.grow(r, 5), lambda r: kv.commit(r, 4)):
            with self.raises(ValueError, "request 'a' is evicted"):
                act("a")

    def test_job_under_way(self):
        kv = manager()
        add(kv, "a", 4)
        job = kv.begin_swap_out("a")
        acts = [lambda r: kv.grow(r, 5), lambda r: kv.commit(r, 4), lambda r: kv.rollback(r, 0), kv.drop]
        for act in (*acts, kv.begin_swap_out, lambda r: kv.begin_swap_in(r, 4)):
            with self.raises(ValueError, "request 'a' has job 0 under way: land or abort it first"):
                act("a")
        kv.release("a")
        with self.raises(ValueError, "request 'a' was released with a job under way: land or abort it first"):
            kv.add("a")
        kv.land(job)
        kv.add("a")

    def test_job_ends_once(self):
        kv, other = manager(), manager()
        for each in (kv, other):
            add(each, "a", 4)
        job, foreign = kv.begin_swap_out("a"), other.begin_swap_out("a")
        with self.raises(ValueError, "job 0 is not under way: it was landed or aborted before"):
            kv.land(foreign)
        kv.land(job)
        for end in (kv.land, kv.abort):
            with self.raises(ValueError, "job 0 is not under way: it was landed or aborted before"):
                end(job)

    def test_numbers(self):
        kv = manager()
        add(kv, "a", 6)
        with self.raises(ValueError, "num_tokens must not be negative, got -1"):
            kv.rollback("a", -1)
        with self.raises(ValueError, "valid_len must stay in [6, 8], got 9: hold the room first"):
            kv.commit("a", 9)
        with self.raises(ValueError, "valid_len must stay in [6, 8], got 5: hold the room first"):
            kv.commit("a", 5)
        with self.raises(ValueError, "block_size must be positive, got 0"):
            KVCacheManager(PagedAllocator(1), PagedAllocator(1), 0)

"""Every allocator against the dumbest model: owner |-> list of block ids."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from fastswitch.memory import (
    BlockAllocator,
    BlockGroup,
    BlockGroupAllocator,
    OutOfBlocksError,
    PagedAllocator,
    UnknownOwnerError,
)
from fastswitch.memory.buddy import BuddyAllocator
from fastswitch.memory.owner_thread import WRONG_THREAD

MAKERS: dict[str, Callable[[int], BlockAllocator]] = {
    "paged": PagedAllocator,
    "buddy": BuddyAllocator,
    "block_group": BlockGroupAllocator,
    "block_group_without_growth": lambda num_blocks: BlockGroupAllocator(num_blocks, growth_blocks=0),
}
every_allocator = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def ids_of(groups: tuple[BlockGroup, ...]) -> list[int]:
    return [block_id for group in groups for block_id in group.block_ids]


class AllocatorMachine(RuleBasedStateMachine):
    """Pools small enough that splits, merges and taken-back reserves happen all the time."""

    owners = Bundle("owners")

    def make(self, num_blocks: int, growth_blocks: int) -> BlockAllocator:
        raise NotImplementedError

    @initialize(num_blocks=st.integers(1, 64), growth_blocks=st.integers(0, 8))
    def start(self, num_blocks, growth_blocks):
        self.allocator = self.make(num_blocks, growth_blocks)
        self.num_blocks = num_blocks
        self.tables: dict[int, list[int]] = {}
        self.next_owner = 0

    def new_owner(self) -> int:
        self.next_owner += 1
        return self.next_owner

    def append(self, owner, num_blocks):
        """Appends if and only if there is room; nothing that was handed out before moves."""
        free = self.num_blocks - sum(map(len, self.tables.values()))
        if num_blocks > free:
            message = f"need {num_blocks} blocks, {free} of {self.num_blocks} are free"
            with pytest.raises(OutOfBlocksError, match=f"^{message}$"):
                self.allocator.allocate(owner, num_blocks)
            return False
        groups = self.allocator.allocate(owner, num_blocks)
        assert all(a.end != b.start for a, b in pairwise(groups)), "an appended group is not maximal"
        appended = ids_of(groups)
        assert len(appended) == num_blocks
        self.tables[owner] = self.tables.get(owner, []) + appended
        return True

    @rule(target=owners, num_blocks=st.integers(1, 24))
    def allocate(self, num_blocks):
        owner = self.new_owner()
        return owner if self.append(owner, num_blocks) else multiple()

    @rule(owner=owners, num_blocks=st.sampled_from([1, 1, 1, 2, 5, 13]), times=st.integers(1, 4))
    def grow(self, owner, num_blocks, times):
        for _ in range(times):
            self.append(owner, num_blocks)

    @rule(owner=owners)
    def fill_the_pool(self, owner):
        if self.allocator.num_free:
            self.append(owner, self.allocator.num_free)

    @rule(owner=owners, data=st.data())
    def truncate(self, owner, data):
        keep = data.draw(st.integers(0, len(self.tables[owner])))
        self.allocator.truncate(owner, keep)
        del self.tables[owner][keep:]

    @rule(target=owners, owner=owners, data=st.data())
    def split(self, owner, data):
        at_block = data.draw(st.integers(0, len(self.tables[owner])))
        new_owner = self.new_owner()
        self.allocator.split(owner, at_block, new_owner)
        self.tables[new_owner] = self.tables[owner][at_block:]
        del self.tables[owner][at_block:]
        return new_owner

    @rule(owner=consumes(owners))
    def free(self, owner):
        self.allocator.free(owner)
        del self.tables[owner]
        assert self.allocator.num_owned(owner) == 0
        for call in (self.allocator.groups, self.allocator.free):
            with pytest.raises(UnknownOwnerError, match=f"^unknown owner {owner}$"):
                call(owner)

    @invariant()
    def agrees_with_the_model(self):
        self.allocator.check_invariants()
        held = [block_id for table in self.tables.values() for block_id in table]
        assert len(held) == len(set(held)), "a block has two owners"
        assert set(held) <= set(range(self.num_blocks))
        assert self.allocator.num_free == self.num_blocks - len(held)
        assert 0 <= self.allocator.num_reserved <= self.allocator.num_free
        free_groups = self.allocator.free_groups()
        assert ids_of(free_groups) == sorted(set(range(self.num_blocks)) - set(held))
        assert all(a.end < b.start for a, b in pairwise(free_groups)), "a free group is not maximal"
        assert sorted(self.allocator.owners) == sorted(self.tables)
        for owner, table in self.tables.items():
            assert self.allocator.block_ids(owner).tolist() == table
            groups = self.allocator.groups(owner)
            assert ids_of(groups) == table
            assert all(a.end != b.start for a, b in pairwise(groups)), "a group is not maximal"
            assert self.allocator.num_owned(owner) == len(table)

    def teardown(self):
        if hasattr(self, "allocator"):
            for owner in self.tables:
                self.allocator.free(owner)
            self.allocator.check_invariants()
            assert self.allocator.num_free == self.num_blocks


class PagedMachine(AllocatorMachine):
    def make(self, num_blocks, growth_blocks):
        return PagedAllocator(num_blocks)


class BuddyMachine(AllocatorMachine):
    def make(self, num_blocks, growth_blocks):
        return BuddyAllocator(num_blocks)


class BlockGroupMachine(AllocatorMachine):
    def make(self, num_blocks, growth_blocks):
        return BlockGroupAllocator(num_blocks, growth_blocks=growth_blocks)


TestPaged = PagedMachine.TestCase
TestPaged.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestBuddy = BuddyMachine.TestCase
TestBuddy.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestBlockGroup = BlockGroupMachine.TestCase
TestBlockGroup.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@pytest.fixture(params=MAKERS.values(), ids=MAKERS)
def allocator(request) -> BlockAllocator:
    """16 blocks, 5 of them held by "a"."""
    allocator = request.param(16)
    allocator.allocate("a", 5)
    return allocator


def snapshot(allocator: BlockAllocator):
    allocator.check_invariants()
    return allocator.num_free, allocator.owners, allocator.groups("a"), allocator.free_groups()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a.allocate("b", 12), OutOfBlocksError, "need 12 blocks, 11 of 16 are free"),
        (lambda a: a.allocate("a", 12), OutOfBlocksError, "need 12 blocks, 11 of 16 are free"),
        (lambda a: a.allocate("a", 0), ValueError, "num_blocks must be positive, got 0"),
        (lambda a: a.allocate("b", -1), ValueError, "num_blocks must be positive, got -1"),
        (lambda a: a.allocate("b", 1.5), TypeError, "'float' object cannot be interpreted as an integer"),
        (lambda a: a.groups("b"), UnknownOwnerError, "unknown owner 'b'"),
        (lambda a: a.block_ids("b"), UnknownOwnerError, "unknown owner 'b'"),
        (lambda a: a.truncate("b", 0), UnknownOwnerError, "unknown owner 'b'"),
        (lambda a: a.split("b", 0, "c"), UnknownOwnerError, "unknown owner 'b'"),
        (lambda a: a.free("b"), UnknownOwnerError, "unknown owner 'b'"),
        (lambda a: a.truncate("a", 6), ValueError, "cannot keep 6 blocks of 'a', it holds 5"),
        (lambda a: a.truncate("a", -1), ValueError, "cannot keep -1 blocks of 'a', the number must not be negative"),
        (lambda a: a.split("a", 6, "b"), ValueError, "cannot split 'a' at block 6, it holds 5"),
        (lambda a: a.split("a", -1, "b"), ValueError, "cannot split 'a' at block -1, the index must not be negative"),
        (lambda a: a.split("a", 2, "a"), ValueError, "new_owner 'a' exists already"),
    ],
)
def test_a_refused_call_says_why_and_changes_nothing(allocator, call, error, message):
    before = snapshot(allocator)
    with pytest.raises(error) as caught:
        call(allocator)
    assert str(caught.value) == message
    assert snapshot(allocator) == before
    assert allocator.num_owned("b") == allocator.num_owned("c") == 0
    with pytest.raises(KeyError):
        allocator.groups("b")


@every_allocator
@pytest.mark.parametrize("num_blocks", [0, -3])
def test_a_pool_has_at_least_one_block(make, num_blocks):
    with pytest.raises(ValueError, match=f"^a pool needs at least one block, got {num_blocks}$"):
        make(num_blocks)


def test_a_second_free_finds_no_owner(allocator):
    allocator.free("a")
    with pytest.raises(UnknownOwnerError, match="^unknown owner 'a'$"):
        allocator.free("a")
    allocator.check_invariants()
    assert allocator.num_free == 16


def test_owners_exist_from_the_first_block_or_a_split_until_they_are_freed(allocator):
    allocator.allocate("b", 1)
    allocator.split("a", 5, "c")
    assert allocator.owners == ("a", "b", "c")
    allocator.truncate("b", 0)
    allocator.free("a")
    assert allocator.owners == ("b", "c")


@every_allocator
def test_free_groups_are_maximal_and_by_start(make):
    allocator = make(8)
    allocator.allocate("all", 8)
    assert allocator.free_groups() == ()
    for owner, at_block in (("d", 6), ("c", 4), ("b", 1)):
        allocator.split("all", at_block, owner)
    assert [allocator.block_ids(owner).tolist() for owner in ("all", "b", "c", "d")] == [[0], [1, 2, 3], [4, 5], [6, 7]]
    allocator.free("c")
    allocator.free("all")
    assert allocator.free_groups() == (BlockGroup(0, 1), BlockGroup(4, 2))
    allocator.free("b")
    assert allocator.free_groups() == (BlockGroup(0, 6),)


def in_another_thread(call: Callable[[], object]) -> BaseException | None:
    """Run it in a thread of its own; the exception that it raised."""
    raised: list[BaseException] = []

    def run():
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.allocate("b", 1),
        lambda a: a.truncate("a", 2),
        lambda a: a.split("a", 2, "b"),
        lambda a: a.free("a"),
    ],
    ids=["allocate", "truncate", "split", "free"],
)
def test_another_thread_may_change_it_only_after_a_hand_over(allocator, change):
    before = snapshot(allocator)
    error = in_another_thread(lambda: change(allocator))
    assert isinstance(error, AssertionError)
    assert error.args == (WRONG_THREAD,)
    assert snapshot(allocator) == before
    allocator.hand_over()
    assert in_another_thread(lambda: change(allocator)) is None
    assert snapshot(allocator) != before if "a" in allocator.owners else allocator.num_free == 16


def test_another_thread_may_look_at_any_time(allocator):
    assert in_another_thread(lambda: snapshot(allocator)) is None
    allocator.free("a")


def test_an_owner_without_blocks_still_exists(allocator):
    allocator.truncate("a", 0)
    assert allocator.groups("a") == ()
    assert allocator.block_ids("a").tolist() == []
    assert allocator.block_ids("a").dtype == np.int32
    assert allocator.num_free == 16
    allocator.split("a", 0, "b")
    allocator.allocate("b", 16)
    allocator.free("a")
    assert allocator.num_free == 0


def test_split_and_free_both_sides(allocator):
    table = allocator.block_ids("a").tolist()
    allocator.split("a", 2, ("a", "tail"))
    assert allocator.block_ids("a").tolist() == table[:2]
    assert allocator.block_ids(("a", "tail")).tolist() == table[2:]
    allocator.free("a")
    assert allocator.block_ids(("a", "tail")).tolist() == table[2:]


def test_block_ids_are_a_copy(allocator):
    allocator.block_ids("a")[:] = -1
    assert allocator.block_ids("a").min() >= 0
    assert allocator.block_ids("a").dtype == np.int32


def test_numpy_counts_do_not_leak_into_the_groups(allocator):
    (group, *_) = allocator.allocate("b", np.int64(3))
    assert type(group.start) is type(group.num_blocks) is int
    allocator.truncate("b", np.int32(1))
    assert [type(number) for number in allocator.groups("b")[0]] == [int, int]


def test_paged_gives_the_last_freed_first():
    allocator = PagedAllocator(8)
    for owner in "abc":
        allocator.allocate(owner, 2)
    allocator.free("a")
    allocator.free("c")
    assert allocator.block_ids("b").tolist() == [2, 3]
    assert allocator.allocate("d", 5) == (BlockGroup(4, 2), BlockGroup(0, 2), BlockGroup(6, 1))

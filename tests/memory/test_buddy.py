"""What makes a buddy a buddy: merging with the buddy alone, aligned pieces, tails given back, pools of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory import BlockGroup
from fastswitch.memory.buddy import BuddyAllocator


def buddy_blocks(allocator: BuddyAllocator) -> list[tuple[int, int]]:
    """The free buddy blocks as (start, num_blocks), by start."""
    allocator.check_invariants()
    return sorted(allocator._free_runs())


def filled(num_blocks: int, *sizes: int) -> BuddyAllocator:
    """Owners 0, 1, 2, ... side by side from block 0; no block is free."""
    allocator = BuddyAllocator(num_blocks)
    allocator.allocate("rest", num_blocks)
    assert allocator.groups("rest") == (BlockGroup(0, num_blocks),)
    assert sum(sizes) == num_blocks
    for owner, size in reversed(list(enumerate(sizes))):
        allocator.split("rest", allocator.num_owned("rest") - size, owner)
    allocator.free("rest")
    assert buddy_blocks(allocator) == []
    return allocator


@pytest.mark.parametrize(
    ("num_blocks", "blocks"),
    [
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (3, [(0, 2), (2, 1)]),
        (13, [(0, 8), (8, 4), (12, 1)]),
        (16, [(0, 16)]),
        (100, [(0, 64), (64, 32), (96, 4)]),
    ],
)
def test_a_pool_of_any_size_is_cut_into_aligned_powers_of_two(num_blocks, blocks):
    allocator = BuddyAllocator(num_blocks)
    assert buddy_blocks(allocator) == blocks
    allocator.allocate("a", num_blocks)
    assert allocator.num_free == 0
    allocator.free("a")
    assert buddy_blocks(allocator) == blocks


def test_a_freed_block_merges_with_its_buddy_and_so_on():
    allocator = filled(16, *[2] * 8)
    allocator.free(0)
    allocator.free(2)
    allocator.free(3)
    assert buddy_blocks(allocator) == [(0, 2), (4, 4)]
    allocator.free(1)
    assert buddy_blocks(allocator) == [(0, 8)]


def test_neighbours_that_are_no_buddies_stay_apart():
    allocator = filled(16, *[2] * 8)
    allocator.free(1)
    allocator.free(2)
    assert buddy_blocks(allocator) == [(2, 2), (4, 2)]
    assert allocator.free_groups() == (BlockGroup(2, 4),)


def test_a_buddy_of_another_size_is_no_buddy():
    allocator = filled(8, 2, 2, 1, 1, 2)
    allocator.free(0)
    allocator.free(2)
    assert buddy_blocks(allocator) == [(0, 2), (4, 1)]
    allocator.free(4)
    assert buddy_blocks(allocator) == [(0, 2), (4, 1), (6, 2)]


def test_the_unused_tail_is_given_back_in_aligned_pieces():
    allocator = BuddyAllocator(32)
    assert allocator.allocate("a", 9) == (BlockGroup(0, 9),)
    assert buddy_blocks(allocator) == [(9, 1), (10, 2), (12, 4), (16, 16)]
    allocator.truncate("a", 5)
    assert buddy_blocks(allocator) == [(5, 1), (6, 2), (8, 8), (16, 16)]
    allocator.free("a")
    assert buddy_blocks(allocator) == [(0, 32)]


def test_the_smallest_block_that_holds_the_request_is_taken():
    allocator = filled(32, 4, 4, 8, 16)
    for owner in (3, 2, 0):
        allocator.free(owner)
    assert buddy_blocks(allocator) == [(0, 4), (8, 8), (16, 16)]
    assert allocator.allocate("a", 5) == (BlockGroup(8, 5),)
    assert allocator.allocate("b", 4) == (BlockGroup(0, 4),)


def test_without_a_large_enough_block_the_largest_is_taken_whole_first():
    allocator = filled(16, 2, 2, 4, 1, 1, 2, 4)
    for owner in (0, 2, 4, 6):
        allocator.free(owner)
    assert buddy_blocks(allocator) == [(0, 2), (4, 4), (9, 1), (12, 4)]
    assert allocator.allocate("a", 9) == (BlockGroup(12, 4), BlockGroup(4, 4), BlockGroup(9, 1))
    assert buddy_blocks(allocator) == [(0, 2)]


def test_pieces_that_happen_to_be_adjacent_are_one_group():
    allocator = filled(16, 4, 4, 4, 4)
    allocator.free(2)
    allocator.free(1)
    assert buddy_blocks(allocator) == [(4, 4), (8, 4)]
    assert allocator.allocate("a", 8) == (BlockGroup(4, 8),)
    assert allocator.groups("a") == (BlockGroup(4, 8),)


def test_growth_keeps_nothing_behind():
    allocator = BuddyAllocator(16)
    allocator.allocate("a", 4)
    allocator.allocate("b", 4)
    allocator.allocate("a", 1)
    assert allocator.groups("a") == (BlockGroup(0, 4), BlockGroup(8, 1))
    assert allocator.num_reserved == 0


@given(num_blocks=st.integers(1, 300), sizes=st.lists(st.integers(1, 40), max_size=12), seed=st.randoms())
def test_in_whatever_order_tables_are_freed_the_pool_is_whole_again(num_blocks, sizes, seed):
    allocator = BuddyAllocator(num_blocks)
    whole = buddy_blocks(allocator)
    owners = []
    for owner, size in enumerate(sizes):
        if size <= allocator.num_free:
            allocator.allocate(owner, size)
            owners.append(owner)
    seed.shuffle(owners)
    for owner in owners:
        allocator.free(owner)
        allocator.check_invariants()
    assert buddy_blocks(allocator) == whole

"""What block groups promise beyond the protocol: few groups, growth in place, reserves that are never claims."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import fastswitch
from fastswitch.memory import BlockAllocator, BlockGroup, BlockGroupAllocator, OutOfBlocksError, PagedAllocator
from fastswitch.memory.free_runs import FreeRuns


def packed(num_blocks: int, *sizes: int, growth_blocks: int = 4) -> BlockGroupAllocator:
    """Owners 0, 1, 2, ... side by side from block 0; growth as given from then on."""
    allocator = BlockGroupAllocator(num_blocks, growth_blocks=growth_blocks)
    # One owner split in parts, since prompts of their own would be placed apart.
    allocator.allocate("all", num_blocks)
    for owner, size in enumerate(sizes):
        allocator.split("all", size, "rest")
        allocator.split("all", 0, owner)
        allocator.free("all")
        allocator.split("rest", 0, "all")
        allocator.free("rest")
    allocator.free("all")
    allocator.check_invariants()
    return allocator


def free_runs(allocator: BlockGroupAllocator) -> list[tuple[int, int]]:
    allocator.check_invariants()
    return list(allocator._runs)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_freed_group_merges_with_either_neighbour(order):
    allocator = packed(12, 3, 5, 4)
    for owner in order:
        allocator.free(owner)
        free_runs(allocator)
    assert free_runs(allocator) == [(0, 12)]


def test_merge_with_both_neighbours_at_once():
    allocator = packed(16, 3, 5, 4, 4)
    allocator.free(0)
    allocator.free(2)
    assert free_runs(allocator) == [(0, 3), (8, 4)]
    allocator.free(1)
    assert free_runs(allocator) == [(0, 12)]


def test_a_prompt_takes_the_run_that_fits_exactly():
    allocator = packed(40, 6, 1, 4, 1, 5, 23)
    for owner in (0, 2, 4):
        allocator.free(owner)
    assert allocator.allocate("prompt", 4) == (BlockGroup(7, 4),)
    assert allocator.allocate("second", 4) == (BlockGroup(12, 4),)


def test_a_prompt_that_fits_no_run_takes_the_largest_first():
    allocator = packed(20, 2, 1, 6, 1, 4, 6)
    for owner in (0, 2, 4):
        allocator.free(owner)
    assert allocator.allocate("prompt", 11) == (BlockGroup(3, 6), BlockGroup(10, 4), BlockGroup(0, 1))


def test_prompts_are_placed_apart_only_while_half_of_the_pool_is_free():
    allocator = BlockGroupAllocator(100, growth_blocks=8)
    assert allocator.allocate("a", 20) == (BlockGroup(40, 20),)
    assert allocator.allocate("b", 10) == (BlockGroup(15, 10),)
    assert allocator.allocate("c", 25) == (BlockGroup(60, 25),)


def test_growth_is_in_place_into_the_free_run_behind():
    allocator = packed(16, 4, growth_blocks=2)
    assert allocator.allocate(0, 5) == (BlockGroup(4, 5),)
    assert allocator.allocate(0, 1) == (BlockGroup(9, 1),)
    assert allocator.groups(0) == (BlockGroup(0, 10),)
    assert allocator.num_free == 6


def test_growth_uses_what_is_behind_and_starts_a_growth_group_for_the_rest():
    allocator = packed(32, 4, 2, 4, 22)
    allocator.free(1)
    allocator.free(3)
    assert allocator.allocate(0, 5) == (BlockGroup(4, 2), BlockGroup(10, 3))
    assert allocator.groups(0) == (BlockGroup(0, 6), BlockGroup(10, 3))
    assert free_runs(allocator) == [(17, 15)], "4 blocks are reserved behind the growth group"
    assert allocator.allocate(0, 4) == (BlockGroup(13, 4),)


def test_a_reserve_counts_as_free_and_is_no_claim():
    allocator = packed(16, 4, 4, growth_blocks=8)
    allocator.allocate(0, 1)
    assert free_runs(allocator) == []
    assert allocator.num_free == 7
    assert sum(group.num_blocks for group in allocator.allocate("prompt", 7)) == 7
    assert allocator.num_free == 0
    with pytest.raises(OutOfBlocksError, match="^need 1 blocks, 0 of 16 are free$"):
        allocator.allocate(0, 1)


def test_the_largest_reserve_is_taken_back_first_and_its_owner_keeps_the_near_half():
    allocator = packed(24, 2, 2, 2, 18, growth_blocks=8)
    allocator.free(3)
    allocator.allocate(0, 1)  # 6, and 7-14 reserved
    allocator.allocate(1, 1)  # 15, and 16-23 reserved
    allocator.allocate(1, 4)  # 16-19; 20-23 reserved
    assert free_runs(allocator) == []
    assert allocator.allocate("prompt", 3) == (BlockGroup(11, 3),)
    assert free_runs(allocator) == [(14, 1)]
    assert allocator.allocate(0, 4) == (BlockGroup(7, 4),)
    assert allocator.allocate(1, 4) == (BlockGroup(20, 4),)


def test_a_growing_owner_shares_a_reserve_rather_than_take_a_sliver():
    allocator = packed(18, 2, 2, 1, 1, 12, growth_blocks=11)
    allocator.free(4)
    allocator.allocate(0, 1)
    allocator.free(2)
    assert free_runs(allocator) == [(4, 1)]
    assert allocator.allocate(3, 1) == (BlockGroup(12, 1),)


def test_split_takes_the_reserve_to_the_new_owner():
    allocator = packed(32, 4, 4, growth_blocks=8)
    allocator.allocate(0, 2)
    allocator.split(0, 5, "tail")
    assert allocator.groups("tail") == (BlockGroup(9, 1),)
    assert allocator.allocate("tail", 8) == (BlockGroup(10, 8),)
    allocator.split("tail", 9, "nothing")
    assert allocator.groups("nothing") == ()


def test_truncate_gives_the_reserve_back():
    allocator = packed(32, 4, 4, growth_blocks=8)
    allocator.allocate(0, 2)
    assert free_runs(allocator) == [(18, 14)]
    allocator.truncate(0, 5)
    assert free_runs(allocator) == [(9, 23)]
    assert allocator.allocate(0, 1) == (BlockGroup(9, 1),)


def test_growth_blocks_must_not_be_negative():
    with pytest.raises(ValueError, match="^growth_blocks must not be negative, got -1$"):
        BlockGroupAllocator(8, growth_blocks=-1)


def test_a_block_group_knows_its_end():
    assert BlockGroup(3, 4).end == 7
    assert BlockGroup(start=3, num_blocks=4) == (3, 4)


def test_free_runs_give_of_the_next_class_when_its_own_may_be_too_short():
    runs = FreeRuns(1000)
    runs.add(0, 100)
    runs.add(200, 101)
    runs.add(400, 104)
    assert runs.take_fit(101) == (400, 101), "100 and 101 are one class"
    assert runs.take_fit(100) == (200, 100)
    assert list(runs) == [(0, 100), (300, 1), (501, 3)]
    assert runs.take_fit(200) == (0, 100), "the longest, if none is long enough"
    runs.check_invariants()


def test_free_runs_without_runs_have_nothing_to_give():
    runs = FreeRuns(8)
    assert runs.take_fit(3) == runs.take_middle(3, 1) == (0, 0)
    assert runs.take_at(8, 1) == runs.take_at(0, 1) == 0
    runs.check_invariants()


def test_a_prompt_has_a_reserve_once_owners_have_grown():
    allocator = BlockGroupAllocator(256, growth_blocks=60)
    allocator.allocate("half", 136)
    for owner in range(16):
        allocator.allocate(owner, 4)
        assert allocator.num_reserved == 0
        allocator.free(owner)
    for owner in range(16, 32):
        allocator.allocate(owner, 4)
        allocator.allocate(owner, 12)
        allocator.free(owner)
    allocator.allocate("prompt", 4)
    assert allocator.num_reserved == 7, "12 blocks, in a mean over 16 owners of which all grew"
    assert allocator.allocate("other", 4)[0].start != allocator.groups("prompt")[0].end
    assert len(allocator.groups("prompt")) == 1
    allocator.check_invariants()


def test_a_prompt_has_no_reserve_in_a_pool_that_is_nearly_full():
    allocator = BlockGroupAllocator(100, growth_blocks=60)
    allocator.allocate("most", 75)
    for owner in range(16):
        allocator.allocate(owner, 4)
        allocator.allocate(owner, 12)
        allocator.free(owner)
    allocator.allocate("prompt", 4)
    assert (allocator.num_free, allocator.num_reserved) == (21, 7)
    allocator.allocate("more", 7)
    assert (allocator.num_free, allocator.num_reserved) == (14, 7)
    allocator.allocate("last prompt", 1)
    assert (allocator.num_free, allocator.num_reserved) == (13, 7)


def test_a_growth_group_is_no_longer_than_owners_lately_grew():
    allocator = packed(400, 4, 4, 4, growth_blocks=60)
    allocator.allocate(0, 1)
    assert allocator.num_reserved == 60, "nothing is known yet"
    for owner in range(3, 40):
        allocator.allocate(owner, 4)
        allocator.allocate(owner, 3)
        allocator.free(owner)
    allocator.free(0)
    allocator.allocate(1, 1)
    assert allocator.num_reserved == 3
    allocator.check_invariants()


def test_reserved_tails_are_free_groups():
    allocator = packed(32, 4, 2, 4, 22)
    allocator.free(3)
    allocator.allocate(1, 1)
    assert allocator.num_reserved == 4
    assert free_runs(allocator) == [(15, 17)]
    assert allocator.groups(1) == (BlockGroup(4, 2), BlockGroup(10, 1))
    assert allocator.free_groups() == (BlockGroup(11, 21),)


def churn(allocator: BlockAllocator, fill: float, num_requests: int) -> float:
    """Workload A: prompts of U(1..256) blocks, random victims leave; groups per request."""
    rng = random.Random(1)
    live: list[int] = []
    num_groups = 0
    for owner in range(num_requests):
        size = rng.randint(1, 256)
        while allocator.num_blocks - allocator.num_free + size > fill * allocator.num_blocks:
            allocator.free(live.pop(rng.randrange(len(live))))
        num_groups += len(allocator.allocate(owner, size))
        live.append(owner)
    allocator.check_invariants()
    for owner in live:
        allocator.free(owner)
    return num_groups / num_requests


def decode(allocator: BlockAllocator, num_requests: int, concurrent: int) -> float:
    """Workload B: prompts of U(1..64) blocks, U(1..192) appends of one block round robin; groups per request."""
    rng = random.Random(1)
    left: dict[int, int] = {}
    num_groups = started = 0
    while left or started < num_requests:
        while len(left) < concurrent and started < num_requests:
            allocator.allocate(started, rng.randint(1, 64))
            left[started] = rng.randint(1, 192)
            started += 1
        for owner in list(left):
            allocator.allocate(owner, 1)
            left[owner] -= 1
            if not left[owner]:
                num_groups += len(allocator.groups(owner))
                allocator.free(owner)
                del left[owner]
    allocator.check_invariants()
    return num_groups / num_requests


@pytest.mark.parametrize(("fill", "most"), [(0.9, 1.2), (0.98, 2.6)])
def test_prompts_stay_whole_in_a_full_pool(fill, most):
    allocator = BlockGroupAllocator(20_000)
    assert churn(allocator, fill, 2_000) <= most
    assert free_runs(allocator) == [(0, 20_000)]


@pytest.mark.parametrize(("num_blocks", "most"), [(16_384, 1.2), (8_000, 5.0), (7_600, 8.0)])
def test_decoding_requests_fall_into_few_groups(num_blocks, most):
    allocator = BlockGroupAllocator(num_blocks)
    assert decode(allocator, 300, 64) <= most
    assert free_runs(allocator) == [(0, num_blocks)]


def test_decoding_requests_fall_into_many_groups_in_a_free_list():
    assert decode(PagedAllocator(16_384), 300, 64) > 50


def test_the_import_loads_neither_torch_nor_triton():
    code = "import sys, fastswitch.memory.block_group; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(fastswitch.__file__).parents[1])

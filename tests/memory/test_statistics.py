"""The figures of a pool against brute force over sets of block ids, and a small pool by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory.block_group import BlockGroupAllocator
from fastswitch.memory.buddy import BuddyAllocator
from fastswitch.memory.paged import PagedAllocator
from fastswitch.memory.statistics import OwnerStatistics, PoolOverTime, pool_statistics

ALLOCATORS = pytest.mark.parametrize(
    "make",
    [PagedAllocator, BuddyAllocator, lambda num_blocks: BlockGroupAllocator(num_blocks, growth_blocks=4)],
    ids=["paged", "buddy", "block_group"],
)
# (what, owner, how many): few owners and small pools, so that pools fill and owners are emptied.
HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(["allocate", "allocate", "allocate", "truncate", "free"]), st.integers(0, 5), st.integers(0, 9)
    ),
    max_size=40,
)


def play(allocator, history):
    """Yield the model after each operation: owner |-> its block ids, in token order."""
    tables: dict[int, list[int]] = {}
    for what, owner, number in history:
        if what == "allocate" and 0 < number <= allocator.num_free:
            appended = [id_ for group in allocator.allocate(owner, number) for id_ in group.block_ids]
            tables[owner] = tables.get(owner, []) + appended
        elif what == "truncate" and owner in tables:
            keep = min(number // 3, len(tables[owner]))
            allocator.truncate(owner, keep)
            del tables[owner][keep:]
        elif what == "free" and owner in tables:
            allocator.free(owner)
            del tables[owner]
        yield tables


def count_groups(table):
    return sum(i == 0 or table[i - 1] + 1 != block_id for i, block_id in enumerate(table))


def longest_run(ids):
    """The longest stretch of consecutive ids in a set."""
    longest = 0
    for first in ids:
        end = first
        while end in ids:
            end += 1
        longest = max(longest, end - first)
    return longest


def free_ids(num_blocks, tables):
    return set(range(num_blocks)) - {block_id for table in tables.values() for block_id in table}


def fragmentation(num_blocks, tables):
    free = free_ids(num_blocks, tables)
    return 1 - longest_run(free) / len(free) if free else 0.0


@ALLOCATORS
@given(num_blocks=st.integers(1, 40), history=HISTORIES)
def test_equals_brute_force(make, num_blocks, history):
    allocator = make(num_blocks)
    for tables in play(allocator, history):
        statistics = pool_statistics(allocator)
        groups = {owner: count_groups(table) for owner, table in tables.items()}
        holding = [groups[owner] for owner, table in tables.items() if table]
        num_owned = sum(map(len, tables.values()))
        assert statistics.num_blocks == num_blocks
        assert statistics.num_free == num_blocks - num_owned
        assert statistics.num_reserved == allocator.num_reserved <= statistics.num_free
        assert set(statistics.owners) == {(owner, len(table), groups[owner]) for owner, table in tables.items()}
        assert statistics.num_owners == len(tables)
        assert statistics.num_groups == sum(holding)
        assert statistics.groups_per_owner_mean == (sum(holding) / len(holding) if holding else 0)
        assert statistics.groups_per_owner_max == max(holding, default=0)
        assert statistics.blocks_per_group_mean == (num_owned / sum(holding) if holding else 0)
        assert statistics.largest_free_run == longest_run(free_ids(num_blocks, tables))
        assert statistics.external_fragmentation == pytest.approx(fragmentation(num_blocks, tables), abs=1e-12)


@ALLOCATORS
@given(num_blocks=st.integers(1, 40), history=HISTORIES, often=st.integers(1, 3), seldom=st.integers(1, 5))
def test_over_time_equals_brute_force(make, num_blocks, history, often, seldom):
    allocator, over_time = make(num_blocks), PoolOverTime(groups_every=often, fragmentation_every=seldom)
    groups, fragmentations, owned, reserved = [], [], [0], [0]
    for i, tables in enumerate(play(allocator, history)):
        over_time.sample(allocator)
        if i % often == 0:
            groups += [count_groups(table) for table in tables.values() if table]
        if i % seldom == 0:
            fragmentations.append(fragmentation(num_blocks, tables))
        owned.append(sum(map(len, tables.values())))
        reserved.append(allocator.num_reserved)
    assert over_time.as_json() == {
        "num_samples": len(history),
        "groups_every": often,
        "fragmentation_every": seldom,
        "groups_per_owner_mean": sum(groups) / len(groups) if groups else 0,
        "groups_per_owner_max": max(groups, default=0),
        "external_fragmentation_mean": pytest.approx(sum(fragmentations) / max(1, len(fragmentations)), abs=1e-12),
        "external_fragmentation_max": pytest.approx(max(fragmentations, default=0), abs=1e-12),
        "num_owned_max": max(owned),
        "num_reserved_max": max(reserved),
    }


def small_pool():
    """Blocks 0-11: aabb.aa...d., and an owner "c" without blocks."""
    allocator = PagedAllocator(12)
    for owner, num_blocks in [("a", 2), ("b", 2), ("x", 1), ("a", 2), ("c", 3), ("d", 1)]:
        allocator.allocate(owner, num_blocks)
    allocator.free("x")
    allocator.truncate("c", 0)
    return allocator


def test_a_small_pool_by_hand():
    statistics = pool_statistics(small_pool())
    assert statistics.owners == (
        OwnerStatistics("a", num_blocks=4, num_groups=2),
        OwnerStatistics("b", num_blocks=2, num_groups=1),
        OwnerStatistics("c", num_blocks=0, num_groups=0),
        OwnerStatistics("d", num_blocks=1, num_groups=1),
    )
    assert statistics.as_json() == {
        "num_blocks": 12,
        "num_free": 5,
        "num_reserved": 0,
        "num_owners": 4,
        "num_groups": 4,
        "groups_per_owner_mean": 4 / 3,
        "groups_per_owner_max": 2,
        "blocks_per_group_mean": 7 / 4,
        "largest_free_run": 3,
        "external_fragmentation": 0.4,
    }


def test_a_small_pool_over_time_by_hand():
    allocator, over_time = small_pool(), PoolOverTime(fragmentation_every=2)
    over_time.sample(allocator)  # aabb.aa...d.: groups 2, 1, 1; 2 of 5 free blocks are outside the longest run
    allocator.free("b")
    over_time.sample(allocator)  # aa...aa...d.: groups 2, 1
    allocator.free("d")
    over_time.sample(allocator)  # aa...aa.....: groups 2; 3 of 8
    assert over_time.as_json() == {
        "num_samples": 3,
        "groups_every": 1,
        "fragmentation_every": 2,
        "groups_per_owner_mean": 9 / 6,
        "groups_per_owner_max": 2,
        "external_fragmentation_mean": pytest.approx((2 / 5 + 3 / 8) / 2),
        "external_fragmentation_max": 0.4,
        "num_owned_max": 7,
        "num_reserved_max": 0,
    }


def test_a_reserved_tail_is_free_room():
    allocator = BlockGroupAllocator(64, growth_blocks=8)
    allocator.allocate("a", 10)  # blocks 27-36
    allocator.allocate("b", 10)  # blocks 0-9
    allocator.allocate("a", 1)  # block 37, and 38-45 are reserved behind it
    statistics = pool_statistics(allocator)
    assert (statistics.num_free, statistics.num_reserved) == (43, 8)
    assert statistics.largest_free_run == 64 - 38
    over_time = PoolOverTime()
    over_time.sample(allocator)
    allocator.free("a")
    over_time.sample(allocator)
    figures = over_time.as_json()
    assert (figures["num_owned_max"], figures["num_reserved_max"]) == (21, 8)


@ALLOCATORS
def test_an_empty_pool(make):
    statistics = pool_statistics(make(16))
    assert statistics.owners == ()
    assert statistics.groups_per_owner_mean == statistics.blocks_per_group_mean == 0.0
    assert statistics.groups_per_owner_max == 0
    assert statistics.largest_free_run == statistics.num_free == 16
    assert statistics.external_fragmentation == 0.0


@ALLOCATORS
def test_a_full_pool(make):
    allocator = make(16)
    allocator.allocate("a", 16)
    statistics = pool_statistics(allocator)
    assert statistics.owners == (("a", 16, 1),)
    assert statistics.largest_free_run == statistics.num_free == statistics.num_reserved == 0
    assert statistics.blocks_per_group_mean == 16
    assert statistics.external_fragmentation == 0.0


def test_json_takes_the_figures_as_they_are():
    over_time = PoolOverTime()
    for figures in (pool_statistics(small_pool()).as_json(), over_time.as_json()):
        assert json.loads(json.dumps(figures)) == figures


def test_statistics_are_a_value():
    allocator = small_pool()
    before = pool_statistics(allocator)
    assert before == pool_statistics(allocator)
    assert hash(before) == hash(pool_statistics(allocator))
    allocator.allocate("c", 1)
    assert before != pool_statistics(allocator)


class Counting(PagedAllocator):
    """Counts what costs more than O(1)."""

    num_walks = num_groupings = 0

    def free_groups(self):
        self.num_walks += 1
        return super().free_groups()

    def groups(self, owner):
        self.num_groupings += 1
        return super().groups(owner)


@pytest.mark.parametrize(
    ("options", "groupings", "walks"),
    [({}, 33, 3), ({"groups_every": 4, "fragmentation_every": 1}, 9, 33), ({"groups_every": 100}, 1, 3)],
)
def test_what_costs_is_done_in_the_first_of_every_so_many_samples(options, groupings, walks):
    allocator, over_time = Counting(8), PoolOverTime(**options)
    allocator.allocate("a", 1)
    for _ in range(33):
        over_time.sample(allocator)
    assert (allocator.num_groupings, allocator.num_walks) == (groupings, walks)
    assert over_time.num_samples == 33


@pytest.mark.parametrize("name", ["groups_every", "fragmentation_every"])
@pytest.mark.parametrize("every", [0, -1])
def test_the_rates_are_positive(name, every):
    with pytest.raises(ValueError, match=f"^{name} must be positive, got {every}$"):
        PoolOverTime(**{name: every})

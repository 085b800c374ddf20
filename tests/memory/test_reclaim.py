"""Whose copy is given up, and how much of it."""

import pytest

from fastswitch.memory import BlockGroupAllocator, OutOfBlocksError, PagedAllocator, Tier
from fastswitch.memory.reclaim import Reclaimer
from fastswitch.memory.segment import Holder, Segment

BLOCKS = 300
MIN_TAIL = 64


@pytest.fixture
def tiers():
    return Tier(BlockGroupAllocator(BLOCKS), 1), Tier(BlockGroupAllocator(BLOCKS), 1)


def clean(tiers, segment_id, num_blocks):
    for tier in tiers:
        tier.hold(segment_id, num_blocks)
        tier.mark_valid(segment_id, num_blocks)
    holder = Holder(segment_id, resident=False)
    holder.segments = (Segment(segment_id, holders=[holder]),)
    return holder.segments[0]


@pytest.mark.parametrize(
    ("held", "wanted", "kept"),
    [
        (200, 1, 200 - MIN_TAIL),  # never less than a tail
        (200, 100, 100),  # as much as is wanted
        (MIN_TAIL + 10, 1, 0),  # what would stay is too short to be worth a copy
        (2 * MIN_TAIL, 1, MIN_TAIL),
        (200, 200, 0),
    ],
)
def test_long_clean_copies_lose_a_tail(tiers, held, wanted, kept):
    device, host = tiers
    segment = clean(tiers, "a", held)
    Reclaimer(device, host, MIN_TAIL, 0).reclaim_device(BLOCKS - held + wanted, [segment], keep=())
    assert (device.num_blocks("a"), device.valid_len("a"), host.valid_len("a")) == (kept, kept, held)
    assert device.num_free >= BLOCKS - held + wanted


def test_nobody_loses_anything_while_there_is_room(tiers):
    device, host = tiers
    segments = [clean(tiers, name, 100) for name in "ab"]
    reclaimer = Reclaimer(device, host, MIN_TAIL, 0)
    for tier in (device, host):
        assert not reclaimer.runs_low(tier, 100)
        assert reclaimer.runs_low(tier, 101)
        assert not reclaimer.runs_low(tier, 0)
    assert reclaimer.clean_blocks(segments) == 200


def test_host_room_counts_what_idle_conversations_would_lose(tiers):
    segments = [clean(tiers, name, 60) for name in "ab"]
    segments[0].holders[0].idle = True
    assert Reclaimer(*tiers, MIN_TAIL, 0).host_spare(segments) == 60


@pytest.mark.parametrize(("wanted", "kept"), [(1, 200 - MIN_TAIL), (100, 100), (200, 0)])
def test_who_waits_to_go_on_loses_a_tail_on_both_tiers(tiers, wanted, kept):
    device, host = tiers
    victim, short, asking = clean(tiers, "a", 200), clean(tiers, "b", MIN_TAIL - 1), Holder("asking")
    reclaimer = Reclaimer(device, host, MIN_TAIL, 0)
    reclaimer.prefer(["asking", "a", "b"])
    assert reclaimer.reclaim_host(host.num_free + wanted, [victim, short], asking=asking) == [victim]
    assert [(tier.valid_len("a"), tier.valid_len("b")) for tier in tiers] == [(kept, MIN_TAIL - 1)] * 2


def test_nobody_loses_a_tail_to_one_that_ranks_no_better(tiers):
    device, host = tiers
    victim, asking = clean(tiers, "a", 200), Holder("asking")
    reclaimer = Reclaimer(device, host, MIN_TAIL, 0)
    for order in ([], ["a"], ["a", "asking"]):
        reclaimer.prefer(order)
        with pytest.raises(OutOfBlocksError, match="and 0 can be reclaimed"):
            reclaimer.reclaim_host(host.num_free + 1, [victim], asking=asking)
    assert host.valid_len("a") == 200


def test_the_lowest_rank_loses_its_tail_first(tiers):
    device, host = tiers
    segments = [clean(tiers, name, 100) for name in "abc"]
    reclaimer = Reclaimer(device, host, MIN_TAIL, 0)
    reclaimer.prefer(["asking", "b", "c", "a"])
    reclaimer.reclaim_host(101, segments, asking=Holder("asking"))
    assert [host.valid_len(name) for name in "abc"] == [0, 100, 100 - MIN_TAIL]


def redundant(tiers, segment_id):
    """What is clean comes back to the device."""
    holder = Holder(segment_id, resident=True)
    holder.segments = (Segment(segment_id, holders=[holder]),)
    return holder.segments[0]


def test_the_most_scattered_redundant_copy_goes_first():
    device, host = tiers = Tier(PagedAllocator(BLOCKS), 1), Tier(PagedAllocator(BLOCKS), 1)
    for name, num_blocks in (("a", 3), ("b", 4), ("c", 3), ("b", 7), ("c", 7), ("a", 6), ("b", 8)):
        clean(tiers, name, num_blocks)
    segments = [redundant(tiers, name) for name in "abc"]
    assert [len(host.copy(name).groups) for name in "abc"] == [2, 3, 2]
    assert Reclaimer(device, host, MIN_TAIL, 0).reclaim_host(host.num_free + 7, segments, asking=Holder("d")) == []
    assert [host.num_blocks(name) for name in "abc"] == [6, 0, 7]
    assert [device.num_blocks(name) for name in "abc"] == [6, 8, 7]


class TestHeadroom:
    """What costs no KV is given up in bulk."""

    def test_clean_copies_on_the_device(self, tiers):
        device, host = tiers
        segments = [clean(tiers, name, 100) for name in "abc"]
        reclaimer = Reclaimer(device, host, MIN_TAIL, 0.4)
        reclaimer.prefer("cba")
        reclaimer.reclaim_device(1, segments, keep=())
        assert [device.num_blocks(name) for name in "abc"] == [0, 0, 100], "a tail of b would leave too little of it"
        assert not reclaimer.runs_low(device, 120), "two thirds of the headroom stay free"
        assert reclaimer.runs_low(device, 121)

    def test_redundant_copies_on_the_host_but_no_idle_ones(self, tiers):
        device, host = tiers
        segments = [clean(tiers, "a", 100), redundant(tiers, clean(tiers, "b", 50).segment_id)]
        segments.append(redundant(tiers, clean(tiers, "c", 150).segment_id))
        segments[0].holders[0].idle = True
        Reclaimer(device, host, MIN_TAIL, 0.9).reclaim_host(1, segments, asking=Holder("d"))
        assert [host.num_blocks(name) for name in "abc"] == [100, 0, 0]

    def test_is_a_share_of_the_smaller_pool(self):
        """Of a large host it could be more than all redundant copies together, and none would be kept."""
        device, host = tiers = Tier(BlockGroupAllocator(100), 1), Tier(BlockGroupAllocator(1000), 1)
        segments = [redundant(tiers, clean(tiers, name, 30).segment_id) for name in "abc"]
        host.hold("others", 880)
        reclaimer = Reclaimer(device, host, MIN_TAIL, 0.3)
        assert host.num_free == 30
        assert not reclaimer.runs_low(host, 10)
        assert reclaimer.runs_low(host, 11)
        reclaimer.reclaim_host(11, segments, asking=Holder("d"))
        assert host.num_free == 60

    def test_not_more_than_there_is(self, tiers):
        device, host = tiers
        segment = clean(tiers, "a", 100)
        reclaimer = Reclaimer(device, host, MIN_TAIL, 1)
        with pytest.raises(OutOfBlocksError, match="need 301 blocks, 200 of 300 are free and 100 can be reclaimed"):
            reclaimer.reclaim_device(301, [segment], keep=())
        reclaimer.reclaim_device(201, [segment], keep=())
        assert device.num_free == 300

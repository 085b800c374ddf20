"""Whose copy is given up, and how much of it."""

import pytest

from fastswitch.memory import BlockGroupAllocator, OutOfBlocksError, Tier
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
    Reclaimer(device, host, MIN_TAIL).reclaim_device(BLOCKS - held + wanted, [segment], keep=())
    assert (device.num_blocks("a"), device.valid_len("a"), host.valid_len("a")) == (kept, kept, held)
    assert device.num_free >= BLOCKS - held + wanted


def test_nobody_loses_anything_while_there_is_room(tiers):
    device, host = tiers
    segments = [clean(tiers, name, 100) for name in "ab"]
    reclaimer = Reclaimer(device, host, MIN_TAIL)
    reclaimer.reclaim_device(100, segments, keep=())
    assert reclaimer.reclaim_host(100, segments, keep=()) == []
    assert reclaimer.clean_blocks(segments) == 200


def test_host_room_counts_what_idle_conversations_would_lose(tiers):
    segments = [clean(tiers, name, 60) for name in "ab"]
    segments[0].holders[0].idle = True
    assert Reclaimer(*tiers, MIN_TAIL).host_spare(segments) == 60


@pytest.mark.parametrize(("wanted", "kept"), [(1, 200 - MIN_TAIL), (100, 100), (200, 0)])
def test_who_waits_to_go_on_loses_a_tail_on_both_tiers(tiers, wanted, kept):
    device, host = tiers
    victim, short, asking = clean(tiers, "a", 200), clean(tiers, "b", MIN_TAIL - 1), Segment("asking")
    reclaimer = Reclaimer(device, host, MIN_TAIL)
    reclaimer.prefer(["asking", "a", "b"])
    assert reclaimer.reclaim_host(host.num_free + wanted, [victim, short], keep=[asking]) == [victim]
    assert [(tier.valid_len("a"), tier.valid_len("b")) for tier in tiers] == [(kept, MIN_TAIL - 1)] * 2


def test_nobody_loses_a_tail_to_one_that_ranks_no_better(tiers):
    device, host = tiers
    victim, asking = clean(tiers, "a", 200), Segment("asking")
    reclaimer = Reclaimer(device, host, MIN_TAIL)
    for order in ([], ["a"], ["a", "asking"]):
        reclaimer.prefer(order)
        with pytest.raises(OutOfBlocksError, match="and 0 can be reclaimed"):
            reclaimer.reclaim_host(host.num_free + 1, [victim], keep=[asking])
    assert host.valid_len("a") == 200


def test_the_lowest_rank_loses_its_tail_first(tiers):
    device, host = tiers
    segments = [clean(tiers, name, 100) for name in "abc"]
    reclaimer = Reclaimer(device, host, MIN_TAIL)
    reclaimer.prefer(["asking", "b", "c", "a"])
    reclaimer.reclaim_host(101, segments, keep=[Segment("asking")])
    assert [host.valid_len(name) for name in "abc"] == [0, 100, 100 - MIN_TAIL]

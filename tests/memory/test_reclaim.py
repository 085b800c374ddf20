"""Whose copy is given up: the tails, which the small pools of the manager's tests do not reach."""

import pytest

from fastswitch.memory import BlockGroupAllocator, Tier
from fastswitch.memory.reclaim import MIN_TAIL, Reclaimer
from fastswitch.memory.segment import Segment

BLOCKS = 300


@pytest.fixture
def tiers():
    return Tier(BlockGroupAllocator(BLOCKS), 1), Tier(BlockGroupAllocator(BLOCKS), 1)


def clean(tiers, segment_id, num_blocks):
    for tier in tiers:
        tier.hold(segment_id, num_blocks)
        tier.mark_valid(segment_id, num_blocks)
    return Segment(segment_id, resident=False)


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
    Reclaimer(device, host).reclaim_device(BLOCKS - held + wanted, [segment], keep=())
    assert (device.num_blocks("a"), device.valid_len("a"), host.valid_len("a")) == (kept, kept, held)
    assert device.num_free >= BLOCKS - held + wanted


def test_nobody_loses_anything_while_there_is_room(tiers):
    device, host = tiers
    segments = [clean(tiers, name, 100) for name in "ab"]
    reclaimer = Reclaimer(device, host)
    reclaimer.reclaim_device(100, segments, keep=())
    reclaimer.reclaim_host(100, segments, keep=())
    assert reclaimer.clean_blocks(segments) == 200


def test_host_room_counts_what_idle_conversations_would_lose(tiers):
    segments = [clean(tiers, name, 100) for name in "ab"]
    segments[0].idle = True
    assert Reclaimer(*tiers).host_room(segments) == 200

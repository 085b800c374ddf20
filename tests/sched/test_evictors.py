"""What happens to a victim."""

import pytest

from fastswitch.sched import (
    FCFS,
    CheapestSwitch,
    EvictionWay,
    PrefillFirst,
    Recompute,
    Scheduler,
    SwapOut,
)
from tests.sched.fakes import pools, running, waiting

OUT, AGAIN = EvictionWay.SWAP_OUT, EvictionWay.RECOMPUTE


@pytest.mark.parametrize(
    ("dirty", "host_free", "way"),
    [
        (3, 3, EvictionWay.SWAP_OUT),
        (4, 3, EvictionWay.RECOMPUTE),
        (0, 0, EvictionWay.SWAP_OUT),  # clean: the host has it already
        (1, 0, EvictionWay.RECOMPUTE),
    ],
)
def test_swap_out_unless_the_host_is_full(dirty, host_free, way):
    assert SwapOut().choose(running(0, 5, dirty=dirty), host_free, 0) is way


def test_recompute_always():
    assert Recompute().choose(running(0, 5, dirty=0), 100, 0) is EvictionWay.RECOMPUTE


class Costs:
    """A block takes 1 s out and 2 s back, a token ``token_s``."""

    def __init__(self, token_s):
        self.token_s = token_s

    def out_s(self, num_blocks):
        return 1.0 * num_blocks

    def in_s(self, num_blocks):
        return 2.0 * num_blocks

    def recompute_s(self, num_tokens):
        return self.token_s * num_tokens


@pytest.mark.parametrize(
    ("dirty", "tokens", "way"),
    [
        (4, 12, OUT),  # 4 out and 8 back: 12 s, as long as computing 12 tokens
        (4, 11, AGAIN),
        (1, 9, OUT),  # the host has three blocks: 9 s
        (1, 8, AGAIN),
        (0, 8, OUT),  # clean: it need only come back
        (0, 7, AGAIN),
    ],
)
def test_the_cheaper_one_by_what_the_host_lacks(dirty, tokens, way):
    victim = running(0, 4, dirty=dirty, device_valid_len=tokens)
    assert CheapestSwitch(Costs(1.0)).choose(victim, 100, 0) is way


@pytest.mark.parametrize(("num_waiting", "way"), [(0, AGAIN), (1, AGAIN), (2, OUT), (50, OUT)])
def test_seconds_of_the_device_count_for_everybody_who_waits_on(num_waiting, way):
    victim = running(0, 4, dirty=4, device_valid_len=4)  # 12 s against 4 s
    assert CheapestSwitch(Costs(1.0)).choose(victim, 100, num_waiting) is way


def test_a_full_host_leaves_no_choice():
    assert CheapestSwitch(Costs(99.0)).choose(running(0, 4, dirty=3, device_valid_len=50), 2, 9) is AGAIN


@pytest.mark.parametrize(("others", "way"), [(0, AGAIN), (1, AGAIN), (2, OUT)])
def test_who_gets_the_room_does_not_wait_on_and_who_is_behind_it_does(others, way):
    """A placement counts those who are still outside when the one that the victim goes for is in."""
    victim = running(99, 4, dirty=4, device_valid_len=4)
    requests = [waiting(0, 4), victim, *(waiting(i, 4) for i in range(1, 1 + others))]
    scheduler = Scheduler(FCFS(), PrefillFirst(), CheapestSwitch(Costs(1.0)))
    (eviction,) = scheduler.place(requests, pools()).evictions
    assert (eviction.request_id, eviction.way) == (99, way)

"""When a swap-in is waited for, and when the batch runs on."""

from __future__ import annotations

import pytest

from fastswitch.engine import AdaptiveSwapIn, SwapInMode
from fastswitch.memory import SwapDirection
from tests.engine.doubles import answer
from tests.engine.small_engine import finish, make_engine

WAIT, OVERLAP = SwapInMode.WAIT, SwapInMode.OVERLAP


def test_it_waits_before_it_knows_anything():
    assert AdaptiveSwapIn().choose(10_000) is WAIT


def test_it_waits_for_copies_of_at_most_a_quarter_of_an_iteration():
    adaptive = AdaptiveSwapIn()
    adaptive.observe_copy(num_blocks=4, seconds=1.0)
    adaptive.observe_iteration(8.0)
    assert [adaptive.choose(num_blocks) for num_blocks in (1, 8, 9)] == [WAIT, WAIT, OVERLAP]
    adaptive.observe_iteration(4.0)
    assert [adaptive.choose(num_blocks) for num_blocks in (4, 5)] == [WAIT, OVERLAP]


def test_the_cost_of_a_block_is_a_running_average():
    adaptive = AdaptiveSwapIn()
    adaptive.observe_iteration(4.0)
    adaptive.observe_copy(1, 0.1)
    adaptive.observe_copy(0, 100.0)  # nothing was moved: nothing is learned
    for _ in range(40):
        adaptive.observe_copy(2, 1.0)
    assert adaptive.choose(2) is WAIT
    assert adaptive.choose(3) is OVERLAP
    adaptive.observe_copy(1, 5.5)  # 0.5 + 0.2 x (5.5 - 0.5) = 1.5 a block
    assert adaptive.choose(1) is OVERLAP


@pytest.mark.parametrize(("seconds_per_block", "overlaps"), [(0.0, False), (100.0, True)])
def test_the_engine_does_as_it_says(seconds_per_block, overlaps):
    adaptive = AdaptiveSwapIn()
    adaptive.observe_copy(1, seconds_per_block)
    engine = make_engine(adaptive=adaptive)  # an iteration takes a second
    first = engine.submit(range(9), 6, priority=1)
    engine.step()
    second = engine.submit(range(50, 60), 2, priority=0)
    in_flight = []
    finish(engine, lambda: in_flight.extend(job.direction for job in engine.swaps.jobs))
    assert (SwapDirection.SWAP_IN in in_flight) == overlaps
    assert len(engine.counts.of(SwapDirection.SWAP_IN)) == 1
    assert engine.turn(first).generated == answer(range(9), 6)
    assert engine.turn(second).generated == answer(range(50, 60), 2)

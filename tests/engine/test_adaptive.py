"""When a copy is waited for, and when the batch runs on."""

from __future__ import annotations

import pytest

from fastswitch.engine import AdaptiveSwap, SwapMode
from fastswitch.memory import SwapDirection
from tests.engine.doubles import answer
from tests.engine.small_engine import finish, make_engine

WAIT, OVERLAP = SwapMode.WAIT, SwapMode.OVERLAP
OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN


def test_it_waits_before_it_knows_anything():
    assert AdaptiveSwap().choose(IN, 10_000) is WAIT


def test_it_waits_for_copies_of_at_most_a_quarter_of_an_iteration():
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(IN, num_blocks=4, seconds=1.0)
    adaptive.observe_iteration(8.0)
    assert [adaptive.choose(IN, num_blocks) for num_blocks in (1, 8, 9)] == [WAIT, WAIT, OVERLAP]
    adaptive.observe_iteration(4.0)
    assert [adaptive.choose(IN, num_blocks) for num_blocks in (4, 5)] == [WAIT, OVERLAP]


def test_the_cost_of_a_block_is_a_running_average():
    adaptive = AdaptiveSwap()
    adaptive.observe_iteration(4.0)
    adaptive.observe_copy(IN, 1, 0.1)
    adaptive.observe_copy(IN, 0, 100.0)  # nothing was moved: nothing is learned
    for _ in range(40):
        adaptive.observe_copy(IN, 2, 1.0)
    assert adaptive.choose(IN, 2) is WAIT
    assert adaptive.choose(IN, 3) is OVERLAP
    adaptive.observe_copy(IN, 1, 5.5)  # 0.5 + 0.2 x (5.5 - 0.5) = 1.5 a block
    assert adaptive.choose(IN, 1) is OVERLAP


def test_the_directions_are_learned_apart():
    adaptive = AdaptiveSwap()
    adaptive.observe_iteration(4.0)
    adaptive.observe_copy(OUT, 1, 2.0)
    assert adaptive.choose(OUT, 1) is OVERLAP
    assert adaptive.choose(IN, 1000) is WAIT


def test_what_is_queued_before_a_copy_counts():
    adaptive = AdaptiveSwap()
    engine = make_engine(adaptive=adaptive, device_blocks=18)  # an iteration takes a second
    for index in range(3):
        engine.submit(range(20 * index, 20 * index + 9), 6, priority=2)
    engine.step()
    adaptive.observe_copy(OUT, 1, 0.25 / 4)  # four blocks are a quarter of an iteration
    asked = []
    choose = adaptive.choose
    adaptive.choose = lambda direction, blocks: asked.append((direction, blocks)) or choose(direction, blocks)
    engine.submit(range(60, 90), 2, priority=0)
    engine.step()
    blocks = [blocks for direction, blocks in asked if direction is OUT]
    assert len(blocks) > 1
    assert blocks == sorted(blocks), "each one waits behind those before it"
    assert blocks[0] < blocks[-1]
    finish(engine)


@pytest.mark.parametrize(("seconds_per_block", "overlaps"), [(0.0, False), (100.0, True)])
def test_the_engine_does_as_it_says(seconds_per_block, overlaps):
    adaptive = AdaptiveSwap()
    for direction in (OUT, IN):
        adaptive.observe_copy(direction, 1, seconds_per_block)
    engine = make_engine(adaptive=adaptive)  # an iteration takes a second
    first = engine.submit(range(9), 6, priority=1)
    engine.step()
    second = engine.submit(range(50, 60), 2, priority=0)
    in_flight = []
    finish(engine, lambda: in_flight.extend(job.direction for job in engine.swaps.jobs))
    assert (IN in in_flight) == overlaps
    assert (OUT in in_flight) == overlaps
    assert len(engine.counts.of(IN)) == 1
    assert engine.turn(first).generated == answer(range(9), 6)
    assert engine.turn(second).generated == answer(range(50, 60), 2)

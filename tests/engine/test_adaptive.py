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


def test_it_waits_when_that_costs_the_ready_less_than_an_iteration_costs_the_one_who_comes():
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(IN, num_blocks=4, seconds=1.0)
    adaptive.observe_iteration(8.0, num_ready=3)  # 4 x copy <= 8 s
    assert [adaptive.choose(IN, num_blocks) for num_blocks in (1, 8, 9)] == [WAIT, WAIT, OVERLAP]
    adaptive.observe_iteration(4.0, num_ready=3)
    assert [adaptive.choose(IN, num_blocks) for num_blocks in (4, 5)] == [WAIT, OVERLAP]
    adaptive.observe_iteration(4.0, num_ready=7)
    assert [adaptive.choose(IN, num_blocks) for num_blocks in (2, 3)] == [WAIT, OVERLAP]


def test_as_much_is_begun_as_crosses_during_an_iteration():
    adaptive = AdaptiveSwap()
    assert adaptive.num_blocks_to_begin(IN, num_queued=7) is None
    adaptive.observe_iteration(8.0, num_ready=3)
    assert adaptive.num_blocks_to_begin(IN, num_queued=7) is None
    adaptive.observe_copy(IN, num_blocks=2, seconds=1.0)
    assert [adaptive.num_blocks_to_begin(IN, num_queued) for num_queued in (0, 6, 16, 20)] == [16, 10, 0, 0]
    adaptive.observe_copy(IN, num_blocks=1, seconds=1000.0)
    assert [adaptive.num_blocks_to_begin(IN, num_queued) for num_queued in (0, 1)] == [1, 0], "else nobody ever begins"


def test_nobody_is_pushed_out_for_a_return_that_would_stand_in_the_queue():
    adaptive = AdaptiveSwap()
    engine = make_engine(adaptive=adaptive, device_blocks=8)  # an iteration takes a second
    turns = [engine.submit(range(20 * index, 20 * index + 3), 12, priority=index) for index in range(4)]
    engine.step()
    for turn in turns[:2]:  # the other two stay
        engine.suspend(turn)
    for _ in range(4):
        engine.step()
        while engine.swaps.jobs:
            engine.swaps.land()
    for direction in (OUT, IN):
        adaptive.observe_copy(direction, 1, 1000.0)
    for turn in turns[:2]:
        engine.resume(turn)
    most = []
    finish(engine, lambda: most.append(sum(job.direction is IN for job in engine.swaps.jobs)))
    assert max(most) == 1, "one at a time: the second one's victim runs on meanwhile"
    assert [engine.turn(t).generated for t in turns] == [answer(range(20 * i, 20 * i + 3), 12) for i in range(4)]


def test_the_cost_of_a_block_is_a_running_average():
    adaptive = AdaptiveSwap()
    adaptive.observe_iteration(4.0, num_ready=3)
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
    adaptive.observe_iteration(4.0, num_ready=3)
    adaptive.observe_copy(OUT, 1, 2.0)
    assert adaptive.choose(OUT, 1) is OVERLAP
    assert adaptive.choose(IN, 1000) is WAIT


def test_what_is_queued_before_a_copy_counts():
    adaptive = AdaptiveSwap()
    engine = make_engine(adaptive=adaptive, device_blocks=18)  # an iteration takes a second
    for index in range(3):
        engine.submit(range(20 * index, 20 * index + 9), 6, priority=2)
    engine.step()
    adaptive.observe_copy(OUT, 1, 0.25 / 4)  # three are ready: four blocks are what may be waited for
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

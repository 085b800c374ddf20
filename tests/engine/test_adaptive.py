"""When a copy is waited for, and when the batch runs on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastswitch.engine import AdaptiveSwap, AlwaysOverlap, AlwaysWait, SwapMode
from fastswitch.engine.runs import RUNS, SIMULATED_RUNS
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


# (iteration in s, ready requests, blocks, whether (ready + 1) x blocks x 0.25 s <= iteration); every product is exact
TABLE = [
    (1.0, 0, 4, WAIT),  # 1 x 1.00 = 1: a tie is waited for
    (1.0, 0, 5, OVERLAP),  # 1 x 1.25
    (1.0, 1, 2, WAIT),  # 2 x 0.50 = 1
    (1.0, 1, 3, OVERLAP),  # 2 x 0.75
    (1.0, 3, 1, WAIT),  # 4 x 0.25 = 1
    (1.0, 4, 1, OVERLAP),  # 5 x 0.25
    (0.0, 0, 1, OVERLAP),  # an iteration that took no time is worth no wait
    (0.0, 0, 0, WAIT),  # nor does a copy of nothing
    (1.0, 7, 0, WAIT),
    (64.0, 63, 4, WAIT),  # 64 x 1.00 = 64
    (64.0, 63, 5, OVERLAP),
]


@pytest.mark.parametrize(("iteration_s", "num_ready", "num_blocks", "mode"), TABLE)
@pytest.mark.parametrize("direction", [OUT, IN])
def test_the_decision_table(direction, iteration_s, num_ready, num_blocks, mode):
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(direction, num_blocks=2, seconds=0.5)
    adaptive.observe_iteration(iteration_s, num_ready)
    assert adaptive.choose(direction, num_blocks) is mode


def test_the_last_iteration_alone_counts():
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(IN, 1, 1.0)
    adaptive.observe_iteration(100.0, num_ready=0)
    adaptive.observe_iteration(2.0, num_ready=1)  # 2 x 1 s = 2 s
    assert adaptive.choose(IN, 1) is WAIT
    adaptive.observe_iteration(1.75, num_ready=1)
    assert adaptive.choose(IN, 1) is OVERLAP


def test_the_queue_before_a_copy_turns_a_wait_into_an_overlap():
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(OUT, 1, 0.25)
    adaptive.observe_iteration(1.0, num_ready=1)
    own, before = 2, 1
    assert adaptive.choose(OUT, own) is WAIT
    assert adaptive.choose(OUT, before + own) is OVERLAP


def test_a_direction_learns_nothing_from_the_other():
    adaptive = AdaptiveSwap()
    adaptive.observe_iteration(4.0, num_ready=0)
    adaptive.observe_copy(OUT, 1, 4.0)
    adaptive.observe_copy(IN, 1, 0.5)
    assert [adaptive.choose(OUT, 1), adaptive.choose(OUT, 2)] == [WAIT, OVERLAP]
    assert [adaptive.choose(IN, 8), adaptive.choose(IN, 9)] == [WAIT, OVERLAP]
    assert (adaptive.num_blocks_to_begin(OUT, 0), adaptive.num_blocks_to_begin(IN, 0)) == (1, 8)
    adaptive.observe_copy(OUT, 1, 1000.0)
    assert [adaptive.choose(IN, 8), adaptive.choose(IN, 9)] == [WAIT, OVERLAP]


def test_a_newer_copy_counts_a_fifth_and_what_was_before_fades():
    adaptive = AdaptiveSwap()
    for num_blocks, seconds in [(1, 1.0), (2, 4.0), (4, 2.0), (10, 1.0)]:
        adaptive.observe_copy(IN, num_blocks, seconds)
    # 1; then 1 + (2 - 1) / 5 = 1.2; 1.2 + (0.5 - 1.2) / 5 = 1.06; 1.06 + (0.1 - 1.06) / 5 = 0.868
    expected = 0.868
    adaptive.observe_iteration(expected * 1.001, num_ready=0)
    assert adaptive.choose(IN, 1) is WAIT
    adaptive.observe_iteration(expected * 0.999, num_ready=0)
    assert adaptive.choose(IN, 1) is OVERLAP


def test_pacing_at_its_boundaries():
    adaptive = AdaptiveSwap()
    adaptive.observe_copy(IN, 1, 0.25)
    begun = lambda iteration_s, *queued: (
        adaptive.observe_iteration(iteration_s, num_ready=0),
        [adaptive.num_blocks_to_begin(IN, num_queued) for num_queued in queued],
    )[1]
    assert begun(1.0, 0, 3, 4, 5) == [4, 1, 0, 0], "a full link takes nothing more"
    assert begun(1.2, 0) == [4], "a block that would end in the next iteration is left to it"
    assert begun(1.25, 0) == [5]
    assert begun(0.1, 0, 1) == [1, 0], "less than a block an iteration: one, and then none"
    assert begun(0.0, 0, 9) == [None, None], "an iteration that took no time says nothing"


@pytest.mark.parametrize(("rule", "mode"), [(AlwaysOverlap(), OVERLAP), (AlwaysWait(), WAIT)])
def test_a_fixed_rule_learns_nothing_and_does_not_pace(rule, mode):
    for iteration_s, copy_s in ((1e-6, 1e6), (1e6, 1e-6)):
        rule.observe_iteration(iteration_s, num_ready=3)
        for direction in (OUT, IN):
            rule.observe_copy(direction, 1, copy_s)
            assert [rule.choose(direction, num_blocks) for num_blocks in (0, 1, 10**6)] == [mode] * 3
            assert rule.num_blocks_to_begin(direction, num_queued=10**6) is None


@pytest.mark.parametrize(("rule", "overlaps"), [(AlwaysOverlap, True), (AlwaysWait, False)])
def test_the_engine_does_as_a_fixed_rule_says(rule, overlaps):
    engine = make_engine(adaptive=rule())
    first = engine.submit(range(9), 6, priority=1)
    engine.step()
    second = engine.submit(range(50, 60), 2, priority=0)
    in_flight = []
    finish(engine, lambda: in_flight.extend(job.direction for job in engine.swaps.jobs))
    assert set(in_flight) == ({IN, OUT} if overlaps else set())
    assert engine.turn(first).generated == answer(range(9), 6)
    assert engine.turn(second).generated == answer(range(50, 60), 2)


def test_each_engine_of_an_asynchronous_run_has_a_rule_of_its_own_and_no_other_run_has_one():
    for run in SIMULATED_RUNS.values():
        assert (run.swap_rule() is not None) == run.asynchronous
    run = RUNS["fastswitch"]
    assert isinstance(run.swap_rule(), AdaptiveSwap)
    assert run.swap_rule() is not run.swap_rule(), "what one engine has learnt is not the next one's"
    assert isinstance(replace(run, rule=AlwaysWait).swap_rule(), AlwaysWait)


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

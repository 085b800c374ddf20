"""An exchange of two in one step: whoever returns is copied behind the copy that vacates its room."""

from __future__ import annotations

import math

import pytest

from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.engine.link import EmulatedLink
from fastswitch.memory import SwapDirection
from fastswitch.sched import RequestState
from tests.engine import small_engine
from tests.engine.simulator.test_worked_by_hand import ASYNCHRONOUS, ask, steps
from tests.engine.simulator.test_worked_by_hand import finish as finish_turns
from tests.engine.simulator.test_worked_by_hand import make_engine as make_simulated
from tests.engine.small_engine import check_answers, finish, make_engine

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN
RETURNS, LEAVES = 0, 1  # request ids


def exchange(*, device_blocks=8, alongside=0, num_tokens=2):
    """An engine whose next step exchanges two that do not fit together, and the turns of all; ids as above."""
    engine = make_engine(device_blocks=device_blocks)
    checker = InvariantChecker(engine)
    returns = engine.submit(range(9), 6, priority=1)
    engine.step()
    leaves = engine.submit(range(100, 109), 6, priority=0)
    turn_ids = [returns, leaves]
    if alongside:
        turn_ids.append(engine.submit([7], alongside, priority=0))
    while len(engine.turn(leaves).generated) < num_tokens:
        engine.step()
        checker.check()
        while engine.swaps.jobs:
            engine.swaps.land()
    assert [request.state for request in engine.requests][:2] == [RequestState.SWAPPED, RequestState.RUNNING]
    assert engine.kv.device_blocks(RETURNS) == 0
    engine.set_priority(leaves, 2)
    return engine, checker, [engine.turn(turn_id) for turn_id in turn_ids]


def directions(engine):
    return [(job.request_id, job.direction) for job in engine.swaps.jobs]


def test_the_return_is_submitted_in_the_step_of_its_victims_copy_and_names_that():
    engine, checker, turns = exchange()
    engine.step()
    checker.check()
    assert directions(engine) == [(LEAVES, OUT), (RETURNS, IN)]
    out, back = engine.swaps.jobs
    assert back.after == (out,)
    assert engine.kv.still_read(engine.kv.block_table(RETURNS)).any()
    finish(engine, checker.check)
    assert engine.counts.early == 1
    assert engine.counts.recomputed_tokens == 0
    for turn in turns:
        check_answers([turn])
        assert turn.ended
    check_all_free(engine)


def test_it_waits_for_its_own_copy_though_the_victims_has_landed():
    engine, checker, (returns, _) = exchange()
    engine.step()
    engine.swaps.land()
    engine.step()
    checker.check()
    assert directions(engine) == [(RETURNS, IN)]
    assert len(returns.generated) == 1
    engine.swaps.land()
    engine.step()
    assert len(returns.generated) == 2


def test_when_the_victims_copy_fails_the_victim_alone_is_computed_again():
    engine, checker, turns = exchange()
    num_tokens = next(request.valid_len for request in engine.requests if request.request_id == LEAVES)
    engine.step()
    engine.swaps.fail(0)
    finish(engine, checker.check)
    assert (engine.counts.failed, engine.counts.drops, engine.counts.recomputed_tokens) == (1, 1, num_tokens)
    for turn in turns:
        check_answers([turn])
    check_all_free(engine)


@pytest.mark.parametrize("then", ["land", "fail"])
def test_when_the_returns_copy_fails_before_it_has_begun_it_is_computed_again_and_nothing_leaks(then):
    engine, checker, turns = exchange()
    engine.step()
    engine.swaps.fail(1)
    engine.step()
    checker.check()
    assert engine.kv.count_blocks(engine.kv.device)["quarantined"] > 0, "the victim's copy still reads them"
    getattr(engine.swaps, then)()
    finish(engine, checker.check)
    assert engine.counts.failed == (1 if then == "land" else 2)
    for turn in turns:
        check_answers([turn])
        assert turn.ended
    check_all_free(engine)


@pytest.mark.parametrize("gone", [RETURNS, LEAVES])
def test_either_can_be_cancelled_in_the_middle(gone, monkeypatch):
    monkeypatch.setattr(small_engine, "MAX_STEPS", 100)
    engine, checker, turns = exchange()
    engine.step()
    engine.cancel(gone)
    finish(engine, checker.check)
    for turn in turns:
        check_answers([turn])
    check_all_free(engine)


@pytest.mark.parametrize("num_tokens", [2, 3])
def test_it_takes_only_what_those_who_run_have_left(num_tokens):
    """Who grows in the same step is given its block first, and loses no iteration."""
    engine, checker, turns = exchange(device_blocks=9, alongside=8, num_tokens=num_tokens)
    before = [len(turn.generated) for turn in turns]
    engine.step()
    checker.check()
    assert directions(engine) == [(LEAVES, OUT), (RETURNS, IN)]
    assert [len(turn.generated) for turn in turns] == [before[0], before[1], before[2] + 1]
    finish(engine, checker.check)
    for turn in turns:
        check_answers([turn])


def test_the_return_starts_when_the_victims_copy_is_over_and_joins_the_next_iteration():
    """By hand: an iteration takes a second, a block 3/4 s; blocks hold 16 tokens; 4 of them."""
    link = EmulatedLink(call_us=0.75e6, gbps=math.inf)
    engine = make_simulated(ASYNCHRONOUS, link=link, device_blocks=4, block_size=16)
    third, low = ask(engine, 2, 12, level=0), ask(engine, 17, 3, level=2)
    steps(engine, until=1.0)
    high = ask(engine, 17, 4, level=1)  # needs 2 blocks, 1 is free
    steps(engine, until=5.0)  # 1-2.5 low's 2 blocks go out; 3-4 high's prompt; 4-5 high and third
    assert (high.token_times, third.token_times) == ([4.0, 5.0], [1.0, 2.0, 3.0, 5.0])
    engine.set_priority(high.turn_id, 3)
    finish_turns(engine, third, low, high)
    # 5-6.5 high's 2 blocks go out; 6.5-8 low's come in, 1 into the free block and 1 into one of high's; 8-10 low;
    # 10-10.75 the block that high lost comes back; 11-13 high
    assert low.token_times == [1.0, 9.0, 10.0]
    assert high.token_times == [4.0, 5.0, 12.0, 13.0]
    assert third.token_times == [1.0, 2.0, 3.0, *range(5, 14)]
    returns = [report for report in engine.counts.of(IN) if report.job.after]
    assert [(report.job.request_id, report.job.num_blocks, report.after_s) for report in returns] == [(1, 2, 1.5)]
    assert [report.job.num_blocks for report in engine.counts.of(IN)] == [2, 1]
    assert engine.stall_s == 0
    check_all_free(engine)

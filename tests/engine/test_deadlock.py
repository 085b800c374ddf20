"""Rule 5: when nothing is ready the engine waits for a copy, else for the next arrival, else says what can never be.

Each way in which nobody may be ready, and that the engine does not turn in circles in any of them: a step that runs
nothing is followed by something that lands, by time that passes, or by the error.
"""

from __future__ import annotations

import re

import pytest

from fastswitch.engine import DeadlockError
from fastswitch.memory import SwapDirection
from fastswitch.sched import FCFS, Aging, PriorityTrace, RequestState, TokenAccountant
from tests.engine.simulator.small_bed import FREE_LINK, Served, make_bed, make_plan, make_workload
from tests.engine.small_engine import check_answers, finish, make_engine
from tests.engine.test_ahead import HIGH, LOW, Driven
from tests.engine.test_faults import HangingSwaps, come_back, hang

EQUATION = re.compile(
    r"^deadlock: request (\d+) \((\w+)\) needs (\d+) blocks, but free (\d+) \+ clean (\d+) \+ vacating (\d+) < (\d+) "
    r"and nothing below it can leave(; \d+ are quarantined: go on when the copies that hang are back)?$"
)


def deadlock(engine, at_most=200):
    """Run into the error: (request, state, blocks needed), and that its equation is false of what there is."""
    for _ in range(at_most):
        try:
            if not engine.step():
                before = (engine.clock.now(), engine.num_in_flight)
                engine.wait_for_work()
                assert (
                    before != (engine.clock.now(), engine.num_in_flight)
                    or engine._conversations.changed
                    or (engine.swaps._ended)
                ), "nothing has changed: it would turn in circles"
        except DeadlockError as error:
            found = EQUATION.match(str(error))
            assert found, error
            request, state, need, free, clean, vacating, again = found.groups()[:7]
            assert need == again
            assert int(need) > int(free) + int(clean) + int(vacating)
            assert int(free) == engine.kv.num_free
            assert int(clean) == engine.kv.num_clean
            assert engine.num_in_flight == 0, "there was something to wait for"
            return int(request), state, int(need)
    raise AssertionError(f"neither an end nor an error after {at_most} steps")


def take(engine, num_blocks):
    """Somebody else has so many of the device's blocks: what fits the pool may never fit what is left."""
    engine.kv.device.allocator.allocate("somebody else", num_blocks)


class NoPreemption(FCFS):
    """As a ranker is that pushes nobody out, or a wrapper that has its reasons not to for now."""

    def may_preempt(self, challenger, holder):
        return False


# A copy is waited for first


def test_a_copy_under_way_is_waited_for_before_anything_else():
    engine = make_engine(device_blocks=6)
    low = engine.submit(range(9), 3, priority=1)
    engine.step()
    high = engine.submit(range(50, 59), 3, priority=0)
    assert not engine.step()
    (job,) = engine.swaps.jobs
    assert job.direction is SwapDirection.SWAP_OUT
    engine.wait_for_work(until=1e9)
    assert not engine.swaps.jobs
    assert engine.clock.now() < 1e9, "the next arrival can wait"
    assert engine.step()
    finish(engine)
    for turn_id in (low, high):
        check_answers([engine.turn(turn_id)])


def test_so_is_one_that_was_begun_ahead_of_one_who_idles_and_cannot_leave_meanwhile():
    """A pinned conversation holds the room that somebody needs; nobody runs; nothing else is in flight."""
    driven = Driven()
    engine = driven.engine
    low = driven.ask(17, 9, LOW)
    driven.step(2)
    assert driven.request(0).pinned
    engine.cancel(low.turn_id)
    high = driven.ask(40, 2, HIGH)
    assert not engine.step()
    assert engine.num_in_flight == 1
    engine.wait_for_work(until=1e9)
    assert engine.clock.now() < 1e9
    while not high.ended:
        if not engine.step():
            engine.wait_for_work()
    assert len(high.generated) == 2


def test_a_copy_that_nobody_took_is_no_copy_to_wait_for():
    """It is reported at the next poll, and its request is computed again."""

    class Refusing(HangingSwaps):
        def submit(self, job):
            raise RuntimeError("the thread has ended")

    engine = make_engine(device_blocks=6, swaps=Refusing)
    low = engine.submit(range(9), 3, priority=1)
    engine.step()
    high = engine.submit(range(50, 59), 3, priority=0)
    finish(engine)
    for turn_id in (low, high):
        check_answers([engine.turn(turn_id)])
    assert engine.counts.failed


# Else the next arrival


def test_else_time_passes_to_the_next_arrival_be_it_that_somebody_can_never_run():
    engine = make_engine()
    take(engine, 5)
    engine.submit(range(9), 2)
    assert not engine.step()
    engine.wait_for_work(until=70.0)
    assert engine.clock.now() == 70.0
    assert deadlock(engine) == (0, "waiting", 5)


def test_who_is_suspended_wants_nothing():
    engine = make_engine()
    take(engine, 5)
    turn_id = engine.submit(range(9), 2)
    engine.suspend(turn_id)
    assert not engine.step()
    engine.wait_for_work(until=70.0)
    assert engine.clock.now() == 70.0
    engine.wait_for_work()  # no error: it is its user's wish
    engine.resume(turn_id)
    assert deadlock(engine) == (0, "waiting", 5)


# Else the equation that fails


def test_of_one_that_waits():
    engine = make_engine()
    take(engine, 5)
    engine.submit(range(9), 2)
    assert deadlock(engine) == (0, "waiting", 5)


def test_of_a_resident_that_cannot_grow():
    """It leaves, as the lowest that may, and is counted from then on as one that is outside."""
    engine = make_engine()
    take(engine, 3)
    engine.submit(range(9), 4)  # 5 blocks, and one more for its eleventh token
    assert deadlock(engine) == (0, "swapped", 6)
    assert len(engine.turn(0).generated) == 2


def test_of_the_first_in_order_behind_a_suspended_one():
    """Who is suspended has left the device, and is not the one that the equation is about."""
    engine = make_engine()
    held = engine.submit(range(4), 6, priority=0)
    engine.step()
    engine.suspend(held)
    take(engine, 4)
    engine.submit(range(50, 61), 2, priority=1)
    assert deadlock(engine) == (1, "waiting", 6)
    assert not engine.turn(held).ended


def test_of_one_beside_quarantined_blocks_and_it_goes_on_when_they_are_back():
    engine = make_engine(device_blocks=6, swaps=HangingSwaps)
    low = engine.submit(range(9), 2, priority=1)
    engine.step()
    high = engine.submit(range(50, 59), 2, priority=0)
    engine.step()
    hang(engine.swaps)
    request, state, need = deadlock(engine)
    assert (request, state) == (1, "waiting")
    assert need == 5
    come_back(engine.swaps)
    finish(engine)
    for turn_id in (low, high):
        check_answers([engine.turn(turn_id)])


@pytest.mark.parametrize("aging", [None, 1, 50])
@pytest.mark.parametrize("num_blocks", [7, 8, 15])
def test_a_ranker_that_lets_nobody_push_anybody_out_stops_nobody(num_blocks, aging):
    """All grow beyond the room: the lowest makes room by itself, and comes back when there is some again."""
    ranker = accountant = NoPreemption()
    accountant = TokenAccountant()
    if aging is not None:
        ranker = accountant = Aging(ranker, accountant, max_wait=aging)
    engine = make_engine(device_blocks=num_blocks, ranker=ranker, accountant=accountant)
    turns = [engine.submit(range(20 * i, 20 * i + 5), 8) for i in range(4)]
    finish(engine)
    for turn_id in turns:
        check_answers([engine.turn(turn_id)])
        assert engine.turn(turn_id).ended
    assert any(job.direction is SwapDirection.SWAP_OUT for job in (r.job for r in engine.counts.reports))


def test_of_one_whose_ranker_keeps_a_resident_there_that_waits_for_its_user():
    """Protection is no deadlock: who was suspended before its first step leaves all the same."""
    engine = make_engine(device_blocks=6, ranker=PriorityTrace(None))
    first = engine.submit(range(9), 3, priority=1)
    engine.step()
    second = engine.submit(range(50, 59), 3, priority=0)
    for _ in range(50):
        second_state = next((r.state for r in engine.requests if r.request_id == 1), None)
        if second_state is RequestState.RUNNING:
            break
        if not engine.step():
            engine.wait_for_work()
    engine.suspend(second)
    while not engine.turn(first).ended:
        if not engine.step():
            engine.wait_for_work()
    engine.resume(second)
    finish(engine)
    check_answers([engine.turn(second)])


# A whole workload


def test_a_workload_of_which_only_suspended_turns_are_left_ends_with_their_names():
    workload = make_workload([(6, 5)], [(7, 4)], [(5, 2)])
    held = []

    def hold_two(engine):
        if engine.executed_iterations == 1 and not held:
            held.append(engine.suspend(0))
            held.append(engine.suspend(1))

    bed = make_bed(link=FREE_LINK, device_blocks=32, policy="fcfs")
    message = r"^nothing is left to run but suspended requests, \[0, 1\]: resume one$"
    with pytest.raises(DeadlockError, match=message):
        Served(bed, "fastswitch", workload, make_plan(workload, [0.0, 0.0, 5.0]), hold_two)

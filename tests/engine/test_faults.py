"""Faults in the engine, each in the middle of an exchange: the others finish, nothing leaks, the report counts it."""

from __future__ import annotations

import threading

import pytest

from fastswitch.engine import SwapCoordinator, SwapReport
from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.engine.flight import CopyHungError
from fastswitch.engine.step_loop import DeadlockError
from fastswitch.kernels import per_run
from fastswitch.memory import SwapDirection
from fastswitch.sched import RequestState
from tests.engine.doubles import HeldSwaps
from tests.engine.small_engine import check_answers, finish, make_engine

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN
LONG, SHORT = list(range(100, 106)), list(range(200, 204))


def hang(swaps, index=0):
    """The job at ``index`` is given up, and still reads and writes until `come_back`."""
    job = swaps.jobs[index]
    swaps.jobs.remove(job)
    swaps.hanging.append(job)
    swaps._ended.append(SwapReport(job, "hung", error=CopyHungError("a copy has not come back")))


def come_back(swaps):
    """What hung is over at last, its bytes moved only now."""
    for job in swaps.hanging:
        per_run(*swaps._planes[job.direction], job.runs)
        swaps._ended.append(SwapReport(job, "returned", error=CopyHungError("a copy has not come back")))
    swaps.hanging = []


class HangingSwaps(HeldSwaps):
    """Jobs of which some hang; a job that comes after one that hangs fails."""

    def __init__(self, device_pool, host_pool):
        super().__init__(device_pool, host_pool)
        self.hanging = []

    def land(self, index=0):
        job = self.jobs[index]
        if any(before in self.hanging for before in job.after):
            self.fail(index)
        else:
            super().land(index)


def exchange(swaps=HangingSwaps, **options):
    """One request on the device, a better one that pushes it out: the first copy is under way."""
    engine = make_engine(device_blocks=6, swaps=swaps, **options)
    low = engine.submit(LONG, 6, priority=2)
    for _ in range(3):
        engine.step()
    high = engine.submit(SHORT, 5, priority=0)
    engine.step()
    return engine, low, high


def run_until(engine, direction):
    """Step until a job of that direction is under way, others landing when nothing else can be done; its index."""
    for _ in range(100):
        found = [index for index, job in enumerate(engine.swaps.jobs) if job.direction is direction]
        if found:
            return found[0]
        if not engine.step() and engine.swaps.jobs and engine.swaps.jobs[0].direction is not direction:
            engine.swaps.land()
    raise AssertionError(f"no {direction}")


def finish_all(engine, *turns):
    checker = InvariantChecker(engine)
    finish(engine, checker.check)
    for turn_id in turns:
        turn = engine.turn(turn_id)
        assert turn.ended
        assert len(turn.generated) == turn.max_new_tokens
        check_answers([turn])
    check_all_free(engine)


def state_of(engine, turn_id):
    return next(r.state for r in engine.requests if r.request_id == engine.turn(turn_id).request_id)


# A copy that hangs


@pytest.mark.parametrize("comes_back", ["soon", "late"])
def test_a_swap_out_that_hangs_is_recomputed_and_its_blocks_stay_out_of_use_until_it_is_back(comes_back):
    engine, low, high = exchange()
    (job,) = engine.swaps.jobs
    assert (job.direction, state_of(engine, low)) == (OUT, RequestState.SWAPPING_OUT)
    hang(engine.swaps)
    engine.step()
    assert state_of(engine, low) is RequestState.WAITING
    quarantined = engine.kv.statistics().device.quarantined
    assert quarantined == job.num_blocks > 0
    assert engine.counts.hung == engine.counts.drops == 1
    if comes_back == "late":  # the pool is too small for the other one beside what hangs: it waits, and loses nothing
        assert not engine.step()
    come_back(engine.swaps)
    engine.step()
    assert engine.kv.statistics().device.quarantined == 0
    finish_all(engine, low, high)
    assert engine.counts.recomputed_tokens > 0
    assert engine.counts.as_json(0.0)["hung"] == 1


def test_a_swap_in_that_hangs_is_recomputed_beside_it():
    engine, low, high = exchange()
    hang(engine.swaps, run_until(engine, IN))
    engine.step()
    assert engine.counts.hung == 1
    come_back(engine.swaps)
    finish_all(engine, low, high)


def test_who_ends_while_its_copy_hangs_leaks_nothing():
    engine, low, high = exchange()
    hang(engine.swaps)
    engine.cancel(low)
    engine.step()
    come_back(engine.swaps)
    finish_all(engine, high)
    assert engine.turn(low).ended


def test_nothing_fits_beside_what_hangs_and_the_error_says_so():
    engine, low, high = exchange()
    hang(engine.swaps)
    engine.step()
    equation = r"needs 3 blocks, but free 0 \+ clean 2 \+ vacating 0 < 3 and nothing below it can leave"
    message = (
        rf"^deadlock: request 1 \(swapped\) {equation}; 4 are quarantined: go on when the copies that hang are back$"
    )
    with pytest.raises(DeadlockError, match=message):
        while True:
            if not engine.step():
                engine.wait_for_work()
    come_back(engine.swaps)
    finish_all(engine, low, high)  # nothing is lost: it goes on when there is room again


def test_an_early_return_behind_a_copy_that_hangs_is_recomputed_and_both_come_back():
    engine = make_engine(device_blocks=6, swaps=HangingSwaps)
    first = engine.submit(LONG, 6, priority=2)
    for _ in range(3):
        engine.step()
    second = engine.submit([*SHORT, 204, 205], 6, priority=0)
    engine.step()
    engine.swaps.land()
    for _ in range(3):
        engine.step()
    engine.set_priority(first, 0)
    engine.set_priority(second, 3)
    engine.step()
    out, back = engine.swaps.jobs
    assert back.after == (out,)
    hang(engine.swaps, 0)
    engine.swaps.land(0)  # it comes after one that hangs, so it fails
    engine.step()
    engine.kv.check_invariants()
    assert engine.counts.hung == engine.counts.failed == 1
    come_back(engine.swaps)
    finish_all(engine, first, second)


# A copy that raises, at once or half-way


@pytest.mark.parametrize("direction", [OUT, IN])
def test_a_copy_that_breaks_half_way_is_recomputed(direction):
    engine, low, high = exchange()
    engine.swaps.fail(run_until(engine, direction))
    finish_all(engine, low, high)
    assert engine.counts.failed == 1


class Refusing(HeldSwaps):
    """As when a copy thread has ended: nothing is taken."""

    def submit(self, job):
        raise RuntimeError("fastswitch-swap-out has ended (SystemExit('killed')): no copies are possible any more")


def test_a_thread_that_has_ended_leaves_an_engine_that_recomputes():
    engine, low, high = exchange(swaps=Refusing)
    finish_all(engine, low, high)
    assert engine.counts.failed == engine.counts.drops > 0


class Deadly:
    """A transfer that kills its thread at a given copy."""

    def __init__(self, number):
        self.left = number

    def __call__(self, src_planes, dst_planes, runs):
        self.left -= 1
        if self.left == 0:
            raise SystemExit("killed")
        return per_run(src_planes, dst_planes, runs)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_thread_that_is_killed_by_a_copy(number):
    engine, low, high = exchange(lambda device, host: SwapCoordinator(device, host, transfer=Deadly(number)))
    try:
        finish_all(engine, low, high)
    finally:
        engine.swaps.close()


# The host is full


def test_a_full_host_recomputes_its_victims():
    engine, low, high = exchange(host_blocks=1)
    finish_all(engine, low, high)
    assert engine.counts.drops > 0
    assert not engine.counts.reports


# An error that the device reports after the landing was taken on trust


class LosingSwaps(HeldSwaps):
    """Says of chosen jobs, after they were reported, that they failed."""

    def __init__(self, device_pool, host_pool):
        super().__init__(device_pool, host_pool)
        self.doomed = []

    def lost(self):
        doomed, self.doomed = self.doomed, []
        return [SwapReport(job, "failed", error=RuntimeError("an illegal memory access")) for job in doomed]


@pytest.mark.parametrize("direction", [OUT, IN])
def test_what_was_computed_from_a_copy_that_failed_after_all_is_no_token(direction):
    engine, low, high = exchange(swaps=LosingSwaps)
    index = run_until(engine, direction)
    job = engine.swaps.jobs[index]
    engine.swaps.land(index)
    _spoil(engine, job)
    engine.swaps.doomed = [job]
    finish_all(engine, low, high)
    assert engine.counts.failed == 1
    assert engine.counts.recomputed_tokens > 0


def _spoil(engine, job):
    """The copy never arrived: its destination holds anything."""
    destination = engine.swaps._planes[job.direction][1]
    for _, start, num_blocks in job.runs.tolist():
        for plane in destination:
            plane[start : start + num_blocks] = -1


# Cancel and close in each state


@pytest.mark.parametrize("steps", range(10))
@pytest.mark.parametrize("victim", ["low", "high"])
def test_cancel_at_any_step_of_an_exchange(steps, victim):
    engine, low, high = exchange()
    for _ in range(steps):
        if not engine.step() and engine.swaps.jobs:
            engine.swaps.land()
    cancelled, other = (low, high) if victim == "low" else (high, low)
    engine.cancel(cancelled)
    finish_all(engine, other)


@pytest.mark.parametrize("steps", range(8))
def test_close_at_any_step_ends_every_future_and_thread(steps):
    engine, _, _ = exchange(SwapCoordinator)
    for _ in range(steps):
        engine.step()
    engine.swaps.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastswitch-")]
    for flight in engine.swaps._flights.values():
        assert flight.future.done()

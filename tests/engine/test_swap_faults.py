"""What ``swap.py`` guarantees when a copy hangs, a device reports an error late, or one job must come after another."""

from __future__ import annotations

import threading

import pytest
import torch

from fastswitch.engine import SwapCoordinator
from fastswitch.engine.flight import CopyHungError
from tests.engine.doubles import FakeClock
from tests.engine.gated_copies import IN, OUT, PATIENCE_S, Gated, make_job, make_pools
from tests.engine.lazy_streams import LazyStreams, lazy_transfer

DEADLINE_S = 5.0  # of a clock that stands still


@pytest.fixture
def hanging(gated):
    """A coordinator whose clock the test moves, and a job out of block 0 whose copy hangs on a gate."""
    clock = FakeClock()
    device, host = make_pools()
    gated.hold(0)
    with SwapCoordinator(device, host, transfer=gated, clock=clock, deadline_s=DEADLINE_S) as swaps:
        job = make_job(0, OUT)
        future = swaps.submit(job)
        assert gated.started[0].wait(PATIENCE_S)
        yield swaps, clock, job, future
        gated.gates[0].set()


def end_of(swaps, job_id):
    """The next report of a job, whenever its thread gets there."""
    for _ in range(5_000):
        for report in swaps.landed():
            if report.job.job_id == job_id:
                return report
        swaps.wait_any(0.01)  # what hangs is nobody's to wait for, so now and then look again
        threading.Event().wait(0.001)
    raise AssertionError(f"job {job_id} never ended")


# Guarantee 6: a copy that hangs


def test_a_copy_hangs_when_the_deadline_has_passed_and_not_before(hanging):
    swaps, clock, job, future = hanging
    clock.sleep(DEADLINE_S)
    assert swaps.landed() == []
    clock.sleep(0.1)
    (report,) = swaps.landed()
    assert report.job is job
    assert report.hangs
    assert str(report.error) == "a copy of fastswitch-swap-out has not come back within 5 s"
    assert future.exception(PATIENCE_S) is report.error
    assert swaps.landed() == []


def test_a_copy_that_hung_is_reported_once_more_when_it_is_back_and_then_the_way_is_free(hanging, gated):
    swaps, clock, job, _ = hanging
    clock.sleep(DEADLINE_S + 1)
    assert [report.hangs for report in swaps.landed()] == [True]
    with pytest.raises(RuntimeError, match=r"^a copy of fastswitch-swap-out hangs: no copies are possible"):
        swaps.submit(make_job(1, OUT, [(1, 1, 1)]))
    gated.gates[0].set()
    back = end_of(swaps, 0)
    assert (back.job, back.way, back.hangs) == (job, "returned", False)
    later = swaps.submit(make_job(2, OUT, [(2, 2, 1)]))
    assert later.result(PATIENCE_S).error is None
    assert [report.job.job_id for report in swaps.landed()] == [2]


def test_what_is_queued_behind_a_copy_that_hangs_fails_untouched(hanging, gated):
    swaps, clock, _, _ = hanging
    queued = swaps.submit(make_job(1, OUT, [(1, 1, 1)]))
    other_way = swaps.submit(make_job(2, IN, [(2, 2, 1)]))
    assert other_way.result(PATIENCE_S).error is None
    clock.sleep(DEADLINE_S + 1)
    reports = {report.job.job_id: report for report in (*swaps.landed(), *swaps.landed())}
    assert isinstance(queued.exception(PATIENCE_S), CopyHungError)
    assert (reports[0].hangs, reports[1].hangs, reports[2].error) == (True, False, None)
    gated.gates[0].set()
    swaps.close()
    assert 1 not in gated.served


def test_nobody_waits_longer_than_the_deadline(gated):
    device, host = make_pools()
    gated.hold(0)
    with SwapCoordinator(device, host, transfer=gated, deadline_s=0.01) as swaps:
        job = make_job(0, OUT)
        swaps.submit(job)
        swaps.wait([job])
        swaps.wait_any(None)
        assert end_of(swaps, 0).hangs
        gated.gates[0].set()
        assert end_of(swaps, 0).way == "returned"


def test_the_time_in_the_queue_is_not_the_copies_own(gated):
    """Three copies of four seconds each, and nobody hangs for more than five."""
    clock = FakeClock()
    device, host = make_pools()
    for block in range(3):
        gated.hold(block)
    with SwapCoordinator(device, host, transfer=gated, clock=clock, deadline_s=DEADLINE_S) as swaps:
        for block in range(3):
            swaps.submit(make_job(block, OUT, [(block, block, 1)]))
        for block in range(3):
            assert gated.started[block].wait(PATIENCE_S)
            clock.sleep(4.0)
            assert swaps.landed() == []
            gated.gates[block].set()
            assert end_of(swaps, block).error is None


def test_deadline_must_be_positive():
    with pytest.raises(ValueError, match=r"^deadline_s must be positive, got 0$"):
        SwapCoordinator(*make_pools(), deadline_s=0)


# Guarantee 3: a job after others


def test_a_job_starts_when_those_that_it_comes_after_are_over(gated):
    device, host = make_pools()
    gated.hold(0)
    with SwapCoordinator(device, host, transfer=gated) as swaps:
        first = make_job(0, OUT)
        swaps.submit(first)
        assert gated.started[0].wait(PATIENCE_S)
        later = swaps.submit(make_job(1, IN, [(3, 0, 1)], after=(first,)))  # into the block that the first one reads
        independent = swaps.submit(make_job(2, IN, [(2, 2, 1)]))
        assert not later.done()
        gated.gates[0].set()
        assert later.result(PATIENCE_S).error is None
        assert independent.result(PATIENCE_S).error is None
    assert torch.equal(host.blocks[0], torch.full_like(host.blocks[0], 1.0))
    assert gated.served == [0, 3, 2]
    assert [report.job.job_id for report in swaps.landed()] == [0, 1, 2]


def test_the_later_job_is_not_reported_before_the_earlier():
    """It may be trusted, since later work waits for it; the earlier one's blocks are not free by that."""
    streams = LazyStreams()
    streams.host_may_wait.clear()
    with SwapCoordinator(*make_pools(), transfer=lazy_transfer, streams=streams) as swaps:
        first = make_job(0, OUT)
        second = make_job(1, IN, [(3, 0, 1)], after=(first,))
        swaps.submit(first)
        swaps.submit(second)
        swaps.wait([second])
        assert swaps.landed() == []
        swaps.wait([first])
        assert [report.job.job_id for report in swaps.landed()] == [0, 1]
        streams.host_may_wait.set()


def test_on_a_device_the_stream_waits_for_that_one_copy():
    """Nobody waits for the first copy on the host, and yet the second does not overwrite what it reads."""
    streams = LazyStreams()
    streams.host_may_wait.clear()
    device, host = make_pools()
    with SwapCoordinator(device, host, transfer=lazy_transfer, streams=streams) as swaps:
        first = make_job(0, OUT)
        second = make_job(1, IN, [(3, 0, 1)], after=(first,))
        swaps.submit(first)
        swaps.submit(second)
        swaps.wait([second])
        streams.swap_in.finish()
        streams.host_may_wait.set()
    assert torch.equal(host.blocks[0], torch.full_like(host.blocks[0], 1.0))
    assert torch.equal(device.blocks[0], torch.full_like(device.blocks[0], 2.0))


def test_a_job_after_one_that_hangs_fails_and_its_own_way_stays_open(hanging, gated):
    swaps, clock, first, _ = hanging
    later = swaps.submit(make_job(1, IN, [(3, 0, 1)], after=(first,)))
    clock.sleep(DEADLINE_S + 1)
    assert [report.job.job_id for report in swaps.landed()] == [0]
    assert str(later.exception(PATIENCE_S)) == "job 1 comes after job 0, which hangs"
    assert [report.hangs for report in swaps.landed()] == [False]
    assert swaps.submit(make_job(2, IN, [(2, 2, 1)])).result(PATIENCE_S).error is None
    assert 3 not in gated.served


def test_a_job_behind_one_that_hangs_and_is_back_is_reported_after_it():
    """Both are enqueued, so the second one is over as soon as the first is; and the first one was reported as hung."""
    streams, clock = LazyStreams(), FakeClock()
    with SwapCoordinator(
        *make_pools(), transfer=lazy_transfer, streams=streams, clock=clock, deadline_s=DEADLINE_S
    ) as swaps:
        streams.host_may_wait.clear()
        first = make_job(0, OUT)
        second = make_job(1, IN, [(3, 0, 1)], after=(first,))
        swaps.submit(first)
        take_up(swaps)
        clock.sleep(DEADLINE_S - 1)
        swaps.submit(second)
        take_up(swaps)
        clock.sleep(2)
        assert [(report.job, report.hangs) for report in swaps.landed()] == [(first, True)]
        streams.swap_out.finish()
        streams.swap_in.finish()
        assert swaps.landed() == []  # the first one's thread has not noticed yet
        streams.host_may_wait.set()
        assert end_of(swaps, 0).way == "returned"
        assert end_of(swaps, 1).error is None


def take_up(swaps):
    """Let both threads enqueue what they were given."""
    for flight in swaps._flights.values():
        assert flight.known.wait(PATIENCE_S)


def test_a_job_after_one_that_failed_goes_on(gated):
    device, host = make_pools()
    gated.hold(0)
    gated.errors[0] = OSError("the link broke")
    with SwapCoordinator(device, host, transfer=gated) as swaps:
        first = make_job(0, OUT)
        swaps.submit(first)
        later = swaps.submit(make_job(1, IN, [(3, 0, 1)], after=(first,)))
        gated.gates[0].set()
        assert later.result(PATIENCE_S).error is None


class SlowStreams(LazyStreams):
    """Lazy streams whose copies out are over when a test says so, whoever asks."""

    def __init__(self):
        super().__init__()
        self.over = {}  # position on the swap-out stream |-> set when what is before it is over
        stream, record = self.swap_out, self.swap_out.record

        def recorded():
            event = record()
            self.over.setdefault(event.position, threading.Event())
            event.query = lambda: self.over[event.position].is_set()
            return event

        stream.record = recorded


def test_a_job_that_waits_its_turn_behind_another_direction_does_not_hang():
    """A copy in is open when the next one has to wait for a copy out: the time of that is the other lane's."""
    clock, streams = FakeClock(), SlowStreams()
    gated = Gated()
    gated.hold(0)
    with SwapCoordinator(*make_pools(8), transfer=gated, streams=streams, clock=clock, deadline_s=DEADLINE_S) as swaps:
        first = make_job(0, OUT)
        swaps.submit(first)
        assert gated.started[0].wait(PATIENCE_S)
        swaps.submit(make_job(1, IN, [(5, 5, 1)])).result(PATIENCE_S)
        waiting = swaps.submit(make_job(2, IN, [(3, 0, 1)], after=(first,)))
        clock.sleep(4.0)
        assert [report.job.job_id for report in swaps.landed()] == [1]
        swaps._lanes[OUT]._busy_since = clock.now()  # the copy out before it took its time, too
        clock.sleep(4.0)
        assert swaps.landed() == []
        gated.gates[0].set()
        for event in list(streams.over.values()):
            event.set()
        streams.swap_out.finish()
        assert end_of(swaps, 0).error is None
        assert waiting.result(PATIENCE_S).error is None


def test_a_copy_that_returns_as_it_is_given_up_is_no_hung_one():
    """Its future has its report: it is over, whatever the clock says."""
    gated = Gated()
    with SwapCoordinator(*make_pools(), transfer=gated) as swaps:
        swaps.submit(make_job(0, OUT)).result(PATIENCE_S)
        flight = swaps._flights[0]
        flight.give_up(CopyHungError("late"))
        assert not flight.hung
        assert [(report.job.job_id, report.error) for report in swaps.landed()] == [(0, None)]
        assert swaps.landed() == []


def test_jobs_are_enqueued_while_those_before_them_are_being_copied():
    streams = LazyStreams()
    streams.host_may_wait.clear()
    with SwapCoordinator(*make_pools(), transfer=lazy_transfer, streams=streams) as swaps:
        for block in range(3):
            job = make_job(block, OUT, [(block, block, 1)])
            swaps.submit(job)
            take_up(swaps)  # though none is over
        assert swaps.landed() == []
        streams.swap_out.finish()
        streams.host_may_wait.set()
        assert [end_of(swaps, block).error for block in (0,)] == [None]


def test_what_was_trusted_and_went_well_is_forgotten(gated):
    with SwapCoordinator(*make_pools(), transfer=gated) as swaps:
        for number in range(20):
            job = make_job(number, OUT)
            future = swaps.submit(job)
            swaps.wait([job])
            swaps.landed()
            future.result(PATIENCE_S)
        swaps.wait_any(None)
        end = make_job(20, OUT)
        swaps.submit(end).result(PATIENCE_S)
        assert end_of(swaps, 20).error is None
        assert len(swaps._fenced) <= 1


# Guarantee 2: an error that the device reports later


class FailingEvent:
    """What is recorded after a copy that fails on the device: as it turns out once the host may wait."""

    def __init__(self, streams, error):
        self.streams = streams
        self.error = error

    def query(self):
        if not self.streams.host_may_wait.is_set():
            return False
        raise self.error

    def synchronize(self):
        self.streams.host_may_wait.wait()
        raise self.error


class FailingStreams(LazyStreams):
    """Lazy streams whose swap-in stream reports an error at each event, once it is told to."""

    def __init__(self, error):
        super().__init__()
        self.fails = False
        stream, record = self.swap_in, self.swap_in.record

        def recorded():
            return FailingEvent(self, error) if self.fails else record()

        stream.record = recorded
        self.compute.wait = lambda event: None


def test_an_error_that_surfaces_at_the_event_fails_the_job():
    error = RuntimeError("an illegal memory access was encountered")
    streams = FailingStreams(error)
    streams.fails = True
    with SwapCoordinator(*make_pools(), transfer=lazy_transfer, streams=streams) as swaps:
        future = swaps.submit(make_job(0, IN))
        assert future.exception(PATIENCE_S) is error
        assert [report.error for report in swaps.landed()] == [error]
        streams.fails = False
        assert swaps.submit(make_job(1, OUT)).result(PATIENCE_S).error is None


def test_a_job_that_was_trusted_and_fails_is_told_of_by_lost():
    error = RuntimeError("an illegal memory access was encountered")
    streams = FailingStreams(error)
    streams.fails = True
    with SwapCoordinator(*make_pools(), transfer=lazy_transfer, streams=streams) as swaps:
        streams.host_may_wait.clear()
        job = make_job(0, IN)
        future = swaps.submit(job)
        swaps.wait([job])
        assert [(report.job, report.error) for report in swaps.landed()] == [(job, None)]
        assert swaps.lost() == []
        streams.host_may_wait.set()
        assert future.exception(PATIENCE_S) is error
        assert [(report.job, report.error) for report in swaps.lost()] == [(job, error)]
        assert swaps.lost() == []


# Guarantee 7: close


def test_close_after_a_threads_death_returns_and_settles_everything(gated):
    swaps = SwapCoordinator(*make_pools(), transfer=gated)
    gated.hold(0)
    gated.errors[0] = SystemExit("killed")
    futures = [swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(2)]
    gated.gates[0].set()
    swaps.close()
    assert all(future.done() for future in futures)


def test_close_is_bounded_when_both_directions_hang(gated):
    gated.hold(0)
    gated.hold(1)
    swaps = SwapCoordinator(*make_pools(), transfer=gated)
    futures = [swaps.submit(make_job(0, OUT)), swaps.submit(make_job(1, IN, [(1, 1, 1)]))]
    assert gated.started[0].wait(PATIENCE_S)
    assert gated.started[1].wait(PATIENCE_S)
    swaps.close(timeout_s=0.02)
    assert all(isinstance(future.exception(0), RuntimeError) for future in futures)

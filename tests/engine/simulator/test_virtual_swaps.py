"""Lanes, waits and stalls on a clock that nobody else moves. A block takes a second to copy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.simulator import FreeCosts, JobCost, VirtualInlineSwaps, VirtualSwaps
from tests.engine.simulator.small_bed import IN, OUT, make_job

BLOCK_BYTES = 100


class SecondABlock:
    """Satisfies ``CopyCosts``."""

    def of(self, job):
        return JobCost("made up", float(job.num_blocks), 3 * job.num_runs, 2 * job.num_runs)


def make_swaps(swaps_class, costs=None):
    clock = VirtualClock()
    return clock, swaps_class(clock, costs or SecondABlock(), BLOCK_BYTES)


def done_at(report):
    """The moment at which a job's copies are over, as its event has it."""
    return report.copy_done.at_s


def test_jobs_of_a_direction_go_one_after_the_other_and_the_engine_goes_on():
    clock, swaps = make_swaps(VirtualSwaps)
    first, second = swaps.submit(make_job(OUT, 2)), swaps.submit(make_job(OUT, 3))
    assert clock.now() == 0
    clock.sleep(1.5)
    assert swaps.landed() == []
    clock.sleep_until(2.0)
    assert [done_at(report) for report in swaps.landed()] == [2.0]
    assert (first.done(), second.done()) == (True, False)
    clock.sleep_until(4.99)
    assert swaps.landed() == []
    clock.sleep_until(5.0)
    assert [done_at(report) for report in swaps.landed()] == [5.0]
    assert swaps.landed() == [], "each once"
    assert swaps.stall_s == 0


def test_the_two_directions_do_not_wait_for_each_other():
    clock, swaps = make_swaps(VirtualSwaps)
    swaps.submit(make_job(OUT, 5))
    swaps.submit(make_job(IN, 1))
    clock.sleep_until(1.0)
    assert [report.job.direction for report in swaps.landed()] == [IN]
    clock.sleep_until(5.0)
    assert [report.job.direction for report in swaps.landed()] == [OUT]


def test_a_lane_that_was_idle_starts_a_job_when_it_is_submitted():
    clock, swaps = make_swaps(VirtualSwaps)
    swaps.submit(make_job(OUT, 2))
    clock.sleep_until(10.0)
    future = swaps.submit(make_job(OUT, 3))
    clock.sleep_until(13.0)
    swaps.landed()
    assert (future.result().queue_s, done_at(future.result())) == (0.0, 13.0)


def test_a_report_says_how_long_a_job_queued_and_copied_and_what_it_moved():
    clock, swaps = make_swaps(VirtualSwaps)
    swaps.submit(make_job(IN, 4))
    clock.sleep(1.0)
    job = make_job(IN, 2, 1)
    future = swaps.submit(job)
    clock.sleep_until(7.0)
    _, report = swaps.landed()
    assert report is future.result()
    assert report.job is job
    assert (report.way, report.num_bytes, report.copies, report.calls) == ("made up", 300, 6, 4)
    assert report.queue_s == 3.0  # from 1 to 4, while the lane copies what came before
    assert report.copy_s == 3.0  # from 4 to 7
    assert report.error is None
    assert clock.now() == 7.0, "to look at a job that is over takes no time"


def test_a_future_settles_at_the_landing_and_not_before():
    clock, swaps = make_swaps(VirtualSwaps)
    future = swaps.submit(make_job(OUT, 2))
    clock.sleep_until(3.0)
    assert not future.done()
    (report,) = swaps.landed()
    assert future.result(timeout=0) is report


def test_landed_jobs_come_in_order_of_submission_whichever_was_over_first():
    clock, swaps = make_swaps(VirtualSwaps)
    jobs = [make_job(IN, 3), make_job(OUT, 1), make_job(IN, 1), make_job(OUT, 1)]
    for job in jobs:
        swaps.submit(job)
    clock.sleep_until(10.0)
    assert [report.job for report in swaps.landed()] == jobs


def test_a_wait_lasts_to_the_end_of_its_job_and_not_longer_and_is_stall():
    clock, swaps = make_swaps(VirtualSwaps)
    first, second, third = make_job(OUT, 2), make_job(OUT, 3), make_job(OUT, 4)
    for job in (first, second, third):
        swaps.submit(job)
    clock.sleep(1.0)
    swaps.wait([second])
    assert clock.now() == 5.0
    assert swaps.stall_s == 4.0
    assert [report.job for report in swaps.landed()] == [first, second]
    swaps.wait([first])
    assert (clock.now(), swaps.stall_s) == (5.0, 4.0)
    swaps.wait([])
    assert (clock.now(), swaps.stall_s) == (5.0, 4.0)
    assert clock.skipped_s == 0, "stall is time that passes"


def test_a_wait_for_jobs_of_both_directions_lasts_to_the_later_one():
    clock, swaps = make_swaps(VirtualSwaps)
    out, back = make_job(OUT, 2), make_job(IN, 6)
    swaps.submit(out)
    swaps.submit(back)
    swaps.wait([out, back])
    assert (clock.now(), swaps.stall_s) == (6.0, 6.0)


def test_a_wait_for_a_job_that_is_over_takes_no_time():
    clock, swaps = make_swaps(VirtualSwaps)
    job = make_job(OUT, 2)
    swaps.submit(job)
    clock.sleep_until(8.0)
    swaps.wait([job])
    assert (clock.now(), swaps.stall_s) == (8.0, 0.0)


@pytest.mark.parametrize(("timeout_s", "until"), [(None, 3.0), (100.0, 3.0), (2.0, 3.0), (0.5, 1.5), (0.0, 1.0)])
def test_wait_any_lasts_to_the_first_end_of_either_direction_or_to_its_timeout(timeout_s, until):
    clock, swaps = make_swaps(VirtualSwaps)
    swaps.submit(make_job(OUT, 5))
    swaps.submit(make_job(IN, 3))
    clock.sleep(1.0)
    swaps.wait_any(timeout_s)
    assert clock.now() == until
    assert swaps.stall_s == 0, "who waits for any job counts for himself"


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_wait_any_returns_at_once_when_nothing_is_under_way_or_a_landing_is_not_seen_yet(timeout_s):
    clock, swaps = make_swaps(VirtualSwaps)
    swaps.wait_any(timeout_s)
    assert clock.now() == 0
    swaps.submit(make_job(OUT, 1))
    swaps.submit(make_job(OUT, 9))
    clock.sleep_until(2.0)
    swaps.wait_any(timeout_s)
    assert clock.now() == 2.0


def test_close_settles_every_future():
    clock, swaps = make_swaps(VirtualSwaps)
    futures = [swaps.submit(make_job(direction, 2)) for direction in (OUT, OUT, IN)]
    clock.sleep_until(2.0)
    swaps.landed()
    swaps.close()
    assert [future.done() for future in futures] == [True] * 3
    assert futures[0].exception() is None
    with pytest.raises(RuntimeError, match=re.escape("closed")):
        futures[1].result(timeout=0)
    assert swaps.landed() == []


def test_inline_the_engine_pays_for_every_job_at_once():
    clock, swaps = make_swaps(VirtualInlineSwaps)
    clock.sleep(10.0)
    first, second = make_job(OUT, 2), make_job(IN, 3, 1)
    future = swaps.submit(first)
    assert (clock.now(), swaps.stall_s) == (12.0, 2.0)
    swaps.submit(second)
    assert (clock.now(), swaps.stall_s) == (16.0, 6.0)
    reports = swaps.landed()
    assert [report.job for report in reports] == [first, second]
    assert future.result(timeout=0) is reports[0]
    assert [(report.queue_s, report.copy_s) for report in reports] == [(0.0, 2.0), (0.0, 4.0)]
    assert (reports[1].num_bytes, reports[1].copies, reports[1].calls) == (400, 6, 4)
    assert swaps.landed() == []
    swaps.wait([first, second])
    swaps.wait_any(None)
    swaps.wait_any(5.0)
    swaps.close()
    assert (clock.now(), swaps.stall_s, clock.skipped_s) == (16.0, 6.0, 0.0)


@pytest.mark.parametrize("swaps_class", [VirtualSwaps, VirtualInlineSwaps])
def test_free_copies_have_landed_at_once_and_count_no_call(swaps_class):
    clock, swaps = make_swaps(swaps_class, FreeCosts())
    swaps.submit(make_job(OUT, 7, 7))
    swaps.submit(make_job(IN, 7, 7))
    reports = swaps.landed()
    assert [(report.copies, report.calls, report.copy_s) for report in reports] == [(0, 0, 0.0)] * 2
    assert [report.num_bytes for report in reports] == [1400, 1400]
    assert (clock.now(), swaps.stall_s) == (0.0, 0.0)


@given(
    steps=st.lists(st.tuples(st.sampled_from([OUT, IN]), st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=20)
)
def test_lanes_are_two_queues_with_one_server_each(steps):
    """The dumbest model: a number a direction, the moment from which it is idle."""
    clock, swaps = make_swaps(VirtualSwaps)
    idle_from, expected = {OUT: 0.0, IN: 0.0}, {}
    for direction, num_blocks, pause in steps:
        job = make_job(direction, num_blocks)
        start = max(clock.now(), idle_from[direction])
        idle_from[direction] = start + num_blocks
        expected[job.job_id] = (start - clock.now(), idle_from[direction])
        swaps.submit(job)
        clock.sleep(pause)
        for report in swaps.landed():
            queue_s, done_s = expected.pop(report.job.job_id)
            assert (report.queue_s, done_at(report)) == (queue_s, done_s)
            assert done_s <= clock.now()
        assert all(done_s > clock.now() for _, done_s in expected.values()), "what is over has landed"

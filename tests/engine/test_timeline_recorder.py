"""What is recorded of a switch is what happened; its sums are the run's totals, in every run."""

from __future__ import annotations

import pytest

from fastswitch.engine import RealClock, Request, SwapCoordinator
from fastswitch.engine.chrome_trace import trace_events
from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.switch_record import CLEAN, DROPPED
from fastswitch.engine.timeline import Iteration, Stall
from fastswitch.engine.timeline_recorder import TimelineRecorder
from fastswitch.engine.trace_check import check_trace
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from tests.engine.lazy_streams import LazyStreams, lazy_transfer
from tests.engine.simulator.small_bed import COMPUTING, IN, OUT, make_bed, make_plan, make_workload
from tests.engine.simulator.test_worked_by_hand import ASYNCHRONOUS, RECOMPUTING, REUSING, SYNCHRONOUS, ask, steps
from tests.engine.simulator.test_worked_by_hand import finish as finish_turns
from tests.engine.simulator.test_worked_by_hand import make_engine as make_simulated
from tests.engine.small_engine import finish, make_engine
from tests.engine.test_swap import make_job, make_pools


def exchanged(run, **pools):
    """Two requests in a pool for one of them, as `test_worked_by_hand` works it out, and the timeline of it."""
    engine = make_simulated(run, **{"device_blocks": 3} | pools)
    recorder = engine.record()
    low = ask(engine, 4, 6, level=1)
    steps(engine, until=2.0)
    high = ask(engine, 8, 3, level=0)
    finish_turns(engine, low, high)
    return engine, recorder.timeline()


@pytest.mark.parametrize("run", [SYNCHRONOUS, ASYNCHRONOUS])
def test_an_exchange_of_two_has_the_times_that_were_worked_out_by_hand(run):
    engine, timeline = exchanged(run)
    # 0-2 low; 2-4 low's 2 blocks go out; 4-7 high; 7-9 low's 2 blocks come back; 9-13 low
    computed = [(0, 4), (1, 1), (4, 8), (5, 1), (6, 1), (9, 1), (10, 1), (11, 1), (12, 1)]
    assert list(timeline.iterations) == [Iteration(at, at + 1, 1, tokens) for at, tokens in computed]
    for_whom = 0 if run is SYNCHRONOUS else None  # the other one waits because nobody can run
    assert list(timeline.stalls) == [Stall(2.0, 4.0, for_whom), Stall(7.0, 9.0, for_whom)]
    out, back = timeline.switches
    assert (out.request_id, out.direction, out.way) == (0, OUT, "per_block")
    assert (out.submitted_s, out.queue_s, out.copy_s, out.landed_s, out.stall_s) == (2.0, 0.0, 2.0, 4.0, 2.0)
    assert (out.num_blocks, out.num_bytes, out.num_runs, out.copies, out.calls) == (2, 32, 1, 2, 2)
    assert (back.request_id, back.direction, back.start_s, back.end_s) == (0, IN, 7.0, 9.0)
    assert (back.stall_s, back.reused_tokens, back.error) == (2.0, 0, None)
    assert engine.stall_s == 4.0


def test_a_copy_that_others_run_beside_is_nobodys_stall_and_lands_at_an_iterations_end():
    engine = make_simulated(ASYNCHRONOUS, device_blocks=4, block_size=16)
    recorder = engine.record()
    third, low = ask(engine, 2, 12, level=0), ask(engine, 16, 6, level=2)
    steps(engine, until=2.0)
    finish_turns(engine, third, low, ask(engine, 40, 2, level=1))
    timeline = recorder.timeline()
    assert timeline.stalls == ()
    assert [(each.start_s, each.end_s, each.landed_s) for each in timeline.switches] == [(2, 4, 4), (6, 8, 8)]
    assert [each.stall_s for each in timeline.switches] == [0.0, 0.0]
    # the third one's decodes beside high's prompt stand still, as the packer has it
    assert [(each.num_requests, each.num_tokens) for each in timeline.iterations[:5]] == [
        (2, 18),
        (2, 2),
        (1, 1),
        (1, 1),
        (1, 40),
    ]


def test_jobs_of_a_direction_queue_for_each_other():
    engine = make_simulated(ASYNCHRONOUS, device_blocks=4)
    recorder = engine.record()
    small = [ask(engine, 2, 8, level=1), ask(engine, 2, 8, level=1)]
    steps(engine, until=1.0)
    finish_turns(engine, *small, ask(engine, 13, 1, level=0))  # needs all blocks: both leave at once
    first, second = [each for each in recorder.timeline().switches if each.direction is OUT][:2]
    assert first.submitted_s == second.submitted_s == 1.0
    assert second.queue_s == first.copy_s > 0
    assert second.start_s == first.end_s


def test_what_an_eviction_need_not_copy_again_is_counted_with_it():
    engine = make_simulated(REUSING, device_blocks=4)
    recorder = engine.record()
    ask(engine, 8, 1, level=1, conversation="talk")
    steps(engine, until=1.0)
    ask(engine, 13, 1, level=0)
    steps(engine, until=4.0)
    follow_up = ask(engine, 3, 4, level=1, conversation="talk")
    steps(engine, until=8.0)
    finish_turns(engine, follow_up, ask(engine, 13, 1, level=0))
    outs = [each for each in recorder.timeline().switches if each.direction is OUT]
    assert [(each.conversation_id, each.reused_tokens, each.num_blocks) for each in outs] == [
        ("talk", 0, 2),
        ("talk", 8, 2),
    ]


def test_a_drop_is_a_moment():
    engine = make_simulated(RECOMPUTING, COMPUTING, device_blocks=3)
    recorder = engine.record()
    low = ask(engine, 4, 4, level=1)
    engine.step()
    engine.step()
    at = engine.clock.now()
    finish_turns(engine, low, ask(engine, 8, 2, level=0))
    (drop,) = recorder.timeline().switches
    assert (drop.way, drop.request_id, drop.start_s, drop.landed_s, drop.copied) == (DROPPED, 0, at, at, False)


def test_an_eviction_of_what_the_host_has_already_is_a_moment():
    engine = make_engine(device_blocks=4, block_size=2)
    recorder = engine.record()
    turn = engine.submit([1, 2, 3], 4)
    engine.step()
    engine.suspend(turn)
    engine.step()
    engine.swaps.land()
    list(engine.stream(engine.submit([1] * 7, 1)))  # needs all blocks
    engine.resume(turn)
    engine.step()  # begins its return
    engine.suspend(turn)
    engine.swaps.land()
    engine.step()  # it is back, nothing was computed since, and it must go
    engine.resume(turn)
    finish(engine)
    switches = [each for each in recorder.timeline().switches if each.request_id == 0]
    assert [(each.direction, each.way, each.reused_tokens) for each in switches] == [
        (OUT, "held", 0),
        (IN, "held", 0),
        (OUT, CLEAN, 3),
    ]
    assert not switches[2].copied


def test_a_copy_that_fails_is_recorded_with_its_reason_and_then_the_drop():
    engine = make_engine(device_blocks=4, block_size=2)
    recorder = engine.record()
    turn = engine.submit([1, 2, 3], 4)
    engine.step()
    engine.suspend(turn)
    engine.step()
    engine.swaps.fail()
    engine.step()
    at = engine.clock.now()
    engine.resume(turn)
    finish(engine)
    dropped, failed = sorted(recorder.timeline().switches, key=lambda each: each.way)
    assert (failed.error, failed.copied, failed.num_bytes) == ("OSError: the link broke", False, 0)
    assert failed.num_blocks == 2
    assert dropped.way == DROPPED
    assert failed.landed_s == dropped.landed_s == at


def test_on_a_device_a_job_may_land_before_its_copies_are_over_and_the_timeline_waits_for_them():
    streams, (device, host) = LazyStreams(), make_pools()
    manager = KVCacheManager(BlockGroupAllocator(4), BlockGroupAllocator(4), 2)
    with SwapCoordinator(device, host, transfer=lazy_transfer, streams=streams) as swaps:
        recorder, job = TimelineRecorder(RealClock(), swaps), make_job(0, OUT)
        streams.host_may_wait.clear()  # the copy's thread sees the end of nothing
        recorder.submits(Request(7, "talk", None, manager, 0.0), job, 2)
        swaps.submit(job)
        swaps.wait([job])  # the compute stream waits, the host does not
        recorder.goes_on()
        (report,) = swaps.landed()
        recorder.landed(report)
        assert not report.copy_done.query()
        streams.host_may_wait.set()
        (switch,) = recorder.timeline().switches
        assert report.copy_done.query()
    assert (switch.request_id, switch.conversation_id, switch.reused_tokens) == (7, "talk", 2)
    assert switch.submitted_s <= switch.start_s


def test_recording_may_begin_in_the_middle_of_a_copy():
    engine = make_engine(device_blocks=4, block_size=2)
    turn = engine.submit([1, 2, 3], 4)
    engine.step()
    engine.suspend(turn)
    engine.step()
    recorder = engine.record()
    engine.resume(turn)
    finish(engine)
    assert recorder.timeline().switches == ()
    assert len(recorder.timeline().iterations) == engine.executed_iterations - 1


def test_an_engine_that_nobody_records_keeps_nothing():
    engine, timeline = exchanged(SYNCHRONOUS)
    assert len(timeline.iterations) == engine.executed_iterations
    unrecorded = make_simulated(SYNCHRONOUS, device_blocks=3)
    assert unrecorded._loop.recorder is unrecorded._switcher.recorder is None


@pytest.mark.parametrize("name", SIMULATED_RUNS)
def test_in_every_run_the_records_add_up_to_the_runs_totals(name):
    workload = make_workload(*([(3 + index, 5), (4, 6)] for index in range(6)))
    bed = make_bed(COMPUTING, device_blocks=8, frequency=0.5)
    with bed.engine(SIMULATED_RUNS[name]) as engine:
        recorder = engine.record()
        plan = make_plan(workload, [0.0] * 6)
        Replay(engine, workload, plan, lambda i, turn: bed.prompt_tokens(workload, i, turn)).run()
        timeline, totals = recorder.timeline(), engine.counts.as_json(engine.stall_s)
    check_trace({"traceEvents": list(trace_events({name: timeline}))})
    jobs = [each for each in timeline.switches if each.copied]
    assert len(timeline.iterations) == engine.executed_iterations
    needed = [each for each in jobs if not each.ahead]
    assert len([each for each in needed if each.direction is OUT]) == totals["swap_outs"]
    assert len([each for each in needed if each.direction is IN]) == totals["swap_ins"]
    assert len(jobs) - len(needed) == totals["ahead"]
    assert sum(bool(each.after) for each in jobs) == totals["early"]
    assert sum(each.way == CLEAN for each in timeline.switches) == totals["clean_evictions"]
    assert sum(each.way == DROPPED for each in timeline.switches) == totals["drops"]
    for of_records, of_run in (
        ("num_bytes", totals["bytes_out"] + totals["bytes_in"]),
        ("num_blocks", totals["blocks_out"] + totals["blocks_in"]),
        *((name, totals[name]) for name in ("copies", "calls", "reused_tokens")),
        *((name, pytest.approx(totals[name])) for name in ("queue_s", "copy_s", "stall_s")),
    ):
        assert sum(getattr(each, of_records) for each in timeline.switches) == of_run, of_records
    assert sum(end - start for start, end, _ in timeline.stalls) == pytest.approx(totals["stall_s"])
    assert jobs or name == "recompute"

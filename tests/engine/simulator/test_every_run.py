"""Every run of the comparison, checked at each step, and nothing that no machine could do.

The pools are so small that requests push each other out all the time, and the host's so small that it fills.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator import RooflineExecutor, simulated_bed
from tests.engine.simulator.small_bed import (
    COMPUTING,
    IN,
    OUT,
    Recorder,
    Served,
    make_bed,
    make_plan,
    make_workload,
)

# A piece of a block takes half a second to issue and a quarter to cross: copies last as long as iterations.
SLOW_LINK = EmulatedLink(call_us=0.5e6, gbps=64e-9)
ROOMY, FULL = 500, 9


def serve(run, host_blocks, seed=0):
    """The workload, how it was served, and (start, end, request ids) of each iteration as the executor saw them."""
    lengths = np.random.default_rng(seed).integers(1, 9, size=(12, 3, 2))
    workload = make_workload(*[[tuple(turn) for turn in turns] for turns in lengths.tolist()])
    bed = make_bed(
        COMPUTING,
        SLOW_LINK,
        device_blocks=-(-workload.max_context // 4) + 2,
        host_blocks=host_blocks,
        frequency=0.25,
        seed=seed,
        check=True,
    )
    plan = make_plan(workload, [1.5 * index for index in range(len(workload))], think_s=2.0)
    recorders = []

    def recording(roofline, clock, **options):
        recorders.append(Recorder(RooflineExecutor(roofline, clock, **options), clock))
        return recorders[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_bed, "RooflineExecutor", recording)
        served = Served(bed, run, workload, plan)
    return workload, served, recorders[0].batches


served_once = functools.cache(serve)  # several tests look at the same runs


def test_who_is_dropped_in_mid_prompt_again_and_again_still_ends():
    """Levels change at each iteration and chunks are short: what was lost is computed anew, and then something new."""
    workload = make_workload(
        [(5, 3), (3, 1), (6, 8)],
        [(6, 1)],
        [(3, 8), (12, 7), (3, 3), (4, 1)],
        [(3, 2)],
        [(13, 2), (5, 4), (11, 4), (12, 7)],
        [(13, 5)],
        [(7, 5), (6, 1)],
        [(12, 1), (7, 1)],
        [(14, 8), (3, 1), (4, 7), (12, 2)],
    )
    bed = make_bed(COMPUTING, device_blocks=15, host_blocks=12, frequency=1.0, token_budget=3, seed=9)
    plan = make_plan(workload, [0.0] * len(workload))

    def bounded(engine):
        assert engine.executed_iterations < 5_000

    assert Served(bed, "recompute", workload, plan, bounded).switches["drops"] > 0


def spans(served, direction=None):
    """(submitted, start, done, job) of each job, in order of submission."""
    reports = sorted(served.reports, key=lambda report: report.job.job_id)
    return [
        (report.copy_start.at_s - report.queue_s, report.copy_start.at_s, report.copy_done.at_s, report.job)
        for report in reports
        if direction in (None, report.job.direction)
    ]


@pytest.mark.parametrize("host_blocks", [ROOMY, FULL])
@pytest.mark.parametrize("run", SIMULATED_RUNS)
def test_each_step_is_checked_and_every_turn_gets_its_tokens(run, host_blocks):
    workload, served, _ = served_once(run, host_blocks)
    for conversation in workload.conversations:
        for index, turn in enumerate(conversation.turns):
            times = served.token_times[conversation.index, index]
            assert len(times) == turn.output_tokens
            assert times == sorted(set(times))
    switches = served.switches
    switched = switches["drops"] if run == "recompute" else switches["swap_outs"]
    assert switched > 5
    assert (switches["drops"] > 0) == (run == "recompute" or host_blocks == FULL)
    assert (switches["recomputed_tokens"] > 0) == (switches["drops"] > 0)


@pytest.mark.parametrize("host_blocks", [ROOMY, FULL])
@pytest.mark.parametrize("run", SIMULATED_RUNS)
def test_nobody_is_computed_while_its_kv_is_on_the_way(run, host_blocks):
    _, served, batches = served_once(run, host_blocks)
    assert len(batches) == served.iterations
    for submitted, start, done, job in spans(served):
        assert submitted <= start <= done
        for batch_start, batch_end, request_ids in batches:
            if job.request_id in request_ids and not (job.ahead and job.direction is OUT):
                assert batch_end <= submitted or batch_start >= done
    ends = {end for _, end, _ in batches}
    assert {time for times in served.token_times.values() for time in times} <= ends


@pytest.mark.parametrize("host_blocks", [ROOMY, FULL])
@pytest.mark.parametrize("run", SIMULATED_RUNS)
def test_one_lane_copies_one_job_at_a_time_and_no_block_is_written_while_it_is_read(run, host_blocks):
    _, served, batches = served_once(run, host_blocks)
    asynchronous = SIMULATED_RUNS[run].asynchronous
    for lane in [spans(served, OUT), spans(served, IN)] if asynchronous else [spans(served)]:
        for (_, _, done, _), (_, start, _, _) in itertools.pairwise(lane):
            assert start >= done
    for submitted, _, done, out in spans(served, OUT):
        for other_submitted, other_start, other_done, back in spans(served, IN):
            if max(submitted, other_start) < min(done, other_done):
                assert not blocks_of(out, 0) & blocks_of(back, 1), "device blocks that are still read"
            if max(submitted, other_submitted) < min(done, other_done):
                assert not blocks_of(out, 1) & blocks_of(back, 0), "host blocks that are not yet written"
                handed_over = blocks_of(out, 0) & blocks_of(back, 1)
                assert not handed_over or out in back.after, "blocks whose reader nobody waits for"
    if not asynchronous:
        assert all(end <= start or begin >= done for begin, end, _ in batches for _, start, done, _ in spans(served)), (
            "the engine's own thread does one thing at a time"
        )


def blocks_of(job, side):
    return {int(run[side]) + offset for run in job.runs for offset in range(int(run[2]))}


def test_asynchronous_copies_overlap_iterations_and_both_lanes_each_other():
    """Else the checks above would be checks of nothing."""
    _, served, batches = served_once("+async", ROOMY)
    jobs = spans(served)
    assert any(start < end and done > begin for begin, end, _ in batches for _, start, done, _ in jobs)
    assert any(start - submitted > 0 for submitted, start, _, _ in jobs)
    assert any(
        start < other_done and done > other_start
        for _, start, done, _ in spans(served, OUT)
        for _, other_start, other_done, _ in spans(served, IN)
    )


@pytest.mark.parametrize("run", SIMULATED_RUNS)
def test_the_same_run_twice_gives_the_same_moments(run):
    assert served_once(run, FULL)[1].token_times == serve(run, FULL)[1].token_times
    assert served_once(run, FULL)[1].token_times != serve(run, FULL, seed=1)[1].token_times


@pytest.mark.parametrize("run", [run for run in SIMULATED_RUNS if run != "recompute"])
def test_what_comes_in_has_gone_out_before(run):
    _, served, _ = served_once(run, FULL)
    switches = served.switches
    assert switches["blocks_in"] <= switches["blocks_out"] or SIMULATED_RUNS[run].reuse
    landed = {}  # request |-> tokens of its KV that have reached the host
    moments = [(done, 0, job) for _, _, done, job in spans(served, OUT)]
    moments += [(submitted, 1, job) for submitted, _, _, job in spans(served, IN)]
    for _, comes_in, job in sorted(moments, key=lambda moment: moment[:2]):
        end = max(part.end_token for part in job.ranges)
        if comes_in:
            assert end <= landed[job.request_id]
        else:
            landed[job.request_id] = max(end, landed.get(job.request_id, 0))


@pytest.mark.parametrize("run", [name for name, spec in SIMULATED_RUNS.items() if spec.asynchronous])
def test_asynchronous_copies_far_shorter_than_an_iteration_are_waited_for(run):
    workload = make_workload(*[[(4 + index, 6), (2, 3)] for index in range(6)])
    link = EmulatedLink(call_us=1000, gbps=1)
    served = Served(make_bed(COMPUTING, link, device_blocks=6), run, workload, make_plan(workload, [0.0] * 6))
    assert served.switches["swap_outs"] > 5
    needed = sum(report.copy_s for report in served.reports if not report.job.ahead)
    assert served.switches["stall_s"] == pytest.approx(needed)

"""Where copies cost nothing, no run may differ from the limit; where dispatch alone costs, the stall is its sum."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.simulator import MODELS, Roofline
from fastswitch.engine.workloads import plan_arrivals, select, synthetic_workload
from tests.engine.simulator.small_bed import (
    COMPUTING,
    FREE_LINK,
    Served,
    make_bed,
    make_plan,
    make_workload,
)

SYNCHRONOUS = ("vllm_0_3", "cross_layer", "+groups")
ASYNCHRONOUS = ("+async", "paper", "fastswitch")  # `modern` pays for the entries of its batches, whatever the link


def serve(bed, workload, plan, *names):
    return [Served(bed, name, workload, plan) for name in names]


LENGTHS = st.tuples(st.integers(1, 12), st.integers(1, 6))


@settings(max_examples=40)
@given(
    conversations=st.lists(st.lists(LENGTHS, min_size=1, max_size=3), min_size=2, max_size=6),
    gaps=st.lists(st.sampled_from([0.0, 0.3, 1.0, 7.0]), min_size=6, max_size=6),
    spare_blocks=st.integers(0, 3),
    frequency=st.sampled_from([1.0, 0.5, 0.2]),
    token_budget=st.sampled_from([8192, 5]),
    seed=st.integers(0, 100),
)
def test_free_copies_make_every_synchronous_run_the_limit(
    conversations, gaps, spare_blocks, frequency, token_budget, seed
):
    workload = make_workload(*conversations)
    starts = [sum(gaps[:index]) for index in range(len(workload))]
    bed = make_bed(
        COMPUTING,
        FREE_LINK,
        device_blocks=-(-workload.max_context // 4) + spare_blocks,
        frequency=frequency,
        token_budget=token_budget,
        seed=seed,
    )
    limit, *others = serve(bed, workload, make_plan(workload, starts), "free_switch", *SYNCHRONOUS)
    for served in others:
        assert served.token_times == limit.token_times, served.name
        assert served.switches["stall_s"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_free_copies_make_every_run_that_copies_the_limit_with_many_switches(seed):
    drawn = synthetic_workload(seed=seed, conversations=16, min_turns=2)
    workload = select(drawn, scale=0.05, seed=seed)
    roofline = Roofline(MODELS["llama8b"], flops=75e12, bytes_per_s=480e9, iteration_s=0.003)
    bed = make_bed(roofline, FREE_LINK, device_blocks=-(-workload.max_context // 4) + 4, frequency=0.5, seed=seed)
    plan = plan_arrivals(workload, work_s=bed.work_s(workload), seed=seed)
    limit, *others = serve(bed, workload, plan, "free_switch", *SYNCHRONOUS, *ASYNCHRONOUS)
    for served in others:
        assert served.token_times == limit.token_times, served.name
        switches = served.switches
        assert switches["swap_outs"] > 30
        assert switches["drops"] == switches["stall_s"] == 0


@pytest.mark.parametrize(("name", "pieces"), [("vllm_0_3", 64), ("cross_layer", 1)])
def test_where_dispatch_alone_costs_the_stall_is_the_copies_times_a_call(name, pieces):
    workload = make_workload(*[[(30 + 7 * index, 12), (9, 8)] for index in range(6)])
    roofline = Roofline(MODELS["llama8b"], flops=75e12, bytes_per_s=480e9, iteration_s=0.003)
    call_s = 2.0**-17  # about 7.6 us; a power of two, so that sums are exact
    link = EmulatedLink(call_us=call_s * 1e6, gbps=math.inf)
    bed = make_bed(roofline, link, device_blocks=24, frequency=1.0)
    (served,) = serve(bed, workload, make_plan(workload, [0.0] * 6, think_s=0.0), name)
    switches = served.switches
    assert switches["swap_outs"] > 20
    assert switches["copies"] == switches["calls"] == pieces * (switches["blocks_out"] + switches["blocks_in"])
    assert switches["stall_s"] == pytest.approx(switches["copies"] * call_s, rel=1e-9)
    assert switches["copy_s"] == pytest.approx(switches["stall_s"], rel=1e-9)


def test_a_run_that_stalls_takes_longer_by_its_stall_and_by_nothing_else():
    """Everybody is there from the start, so nothing is skipped, and who is served when depends on iterations alone."""
    workload = make_workload(*[[(5 + index, 6)] for index in range(6)])
    plan = make_plan(workload, [0.0] * 6)
    (free,) = serve(make_bed(COMPUTING, FREE_LINK, device_blocks=6), workload, plan, "vllm_0_3")
    link = EmulatedLink(call_us=0.25e6, gbps=math.inf)
    (slow,) = serve(make_bed(COMPUTING, link, device_blocks=6), workload, plan, "vllm_0_3")
    stall_s = slow.switches["stall_s"]
    assert stall_s == 0.25 * slow.switches["copies"] > 5
    assert slow.seconds == free.seconds + stall_s

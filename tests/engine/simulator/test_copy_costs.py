"""What a job costs by the formulas of the design, each worked out on paper."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.simulator import CalibratedCosts, FreeCosts, JobCost, LinkCosts
from fastswitch.kernels import DIRECTIONS, TRANSFERS, TransferCosts
from fastswitch.kernels.transfer_costs import WayCost
from fastswitch.memory import KVLayout
from tests.engine.simulator.small_bed import IN, OUT, make_job

# A call takes 10 us, the link moves 10 GB/s (10,000 bytes/us), a gather 100 GB/s.
LINK = EmulatedLink(call_us=10, gbps=10, gather_gbps=100)

# 2 layers x (K and V) x 8 heads x 64 x 16 tokens x 2 bytes: a block of 65,536 bytes, or 4 pieces of 16,384
BLOCK_MAJOR = KVLayout(2, 8, 64, 16, "bfloat16", "block_major")
LAYER_MAJOR = KVLayout(2, 8, 64, 16, "bfloat16", "layer_major")

# 1,024 layers of it: a block of 32 MiB
HUGE = KVLayout(1024, 8, 64, 16, "bfloat16", "block_major")

US = 1e-6


def assert_cost(cost, way, microseconds, copies, calls):
    assert (cost.way, cost.copies, cost.calls) == (way, copies, calls)
    assert cost.seconds == pytest.approx(microseconds * US, rel=1e-12)


@pytest.mark.parametrize("direction", [OUT, IN])
def test_per_block_issues_a_call_a_piece_of_each_block(direction):
    job = make_job(direction, 4, 1)
    # a block crosses in 6.5536 us, a piece in 1.6384: the call is the longer
    assert_cost(LinkCosts(LINK, BLOCK_MAJOR, "per_block").of(job), "per_block", 5 * 10, 5, 5)
    assert_cost(LinkCosts(LINK, LAYER_MAJOR, "per_block").of(job), "per_block", 20 * 10, 20, 20)


@pytest.mark.parametrize("direction", [OUT, IN])
def test_per_run_issues_a_call_a_piece_of_each_run(direction):
    job = make_job(direction, 4, 1)
    # a run of 4 blocks is 262,144 bytes, 26.2144 us; one of 1 block a call of 10 us
    assert_cost(LinkCosts(LINK, BLOCK_MAJOR, "per_run").of(job), "per_run", 26.2144 + 10, 2, 2)
    # its pieces are 65,536 bytes, 6.5536 us: calls again, 4 of each run
    assert_cost(LinkCosts(LINK, LAYER_MAJOR, "per_run").of(job), "per_run", 8 * 10, 8, 8)


def test_batched_is_one_call_with_an_entry_a_piece_of_each_run():
    # 5 blocks are 327,680 bytes, 32.768 us, which is the longer; 1 block is 6.5536 us, a call and an entry longer
    assert_cost(LinkCosts(LINK, BLOCK_MAJOR, "batched").of(make_job(OUT, 4, 1)), "batched", 32.768, 2, 1)
    assert_cost(LinkCosts(LINK, BLOCK_MAJOR, "batched").of(make_job(OUT, 1)), "batched", 10 + 0.6, 1, 1)
    assert_cost(LinkCosts(LINK, LAYER_MAJOR, "batched").of(make_job(IN, 1)), "batched", 10 + 4 * 0.6, 4, 1)


def test_zero_copy_is_one_launch_at_eight_tenths_of_the_link():
    # 327,680 bytes at 8,000 bytes/us are 40.96 us
    assert_cost(LinkCosts(LINK, LAYER_MAJOR, "zero_copy").of(make_job(OUT, 4, 1)), "zero_copy", 10 + 40.96, 1, 1)


def test_staged_is_a_launch_a_gather_and_a_memcpy_a_stage():
    # 327,680 bytes gathered at 100,000 bytes/us, 3.2768 us, then 32.768 us on the link; a memcpy and a launch
    assert_cost(LinkCosts(LINK, LAYER_MAJOR, "staged").of(make_job(OUT, 4, 1)), "staged", 10 + 3.2768 + 32.768, 1, 2)
    # a short rest takes a call: 65,536 bytes are 6.5536 us
    assert_cost(LinkCosts(LINK, BLOCK_MAJOR, "staged").of(make_job(IN, 1)), "staged", 10 + 0.65536 + 10, 1, 2)
    # 3 x 32 MiB are 100,663,296 bytes: 1,006.63296 us gathered, 3 stages of 3,355.4432 us
    cost = LinkCosts(LINK, HUGE, "staged").of(make_job(OUT, 3))
    assert_cost(cost, "staged", 10 + 1_006.63296 + 3 * 3_355.4432, 3, 6)


def test_a_gather_whose_bandwidth_is_not_given_is_as_much_faster_than_the_link_as_on_an_a10():
    link = EmulatedLink(call_us=10, gbps=10)  # 600 / 32 / 2 = 9.375 times: 93,750 bytes/us
    cost = LinkCosts(link, LAYER_MAJOR, "staged").of(make_job(OUT, 4, 1))
    assert_cost(cost, "staged", 10 + 327_680 / 93_750 + 32.768, 1, 2)


@pytest.mark.parametrize(
    ("layout", "lengths", "way", "microseconds"),
    [
        # per_run 10, batched 10.6, zero_copy 10 + 8.192, staged 20.65536
        (BLOCK_MAJOR, (1,), "per_run", 10),
        # per_run 4 x 10, batched 10 + 2.4, zero_copy 18.192, staged 20.65536
        (LAYER_MAJOR, (1,), "batched", 12.4),
        # 24 runs of 1 block, 1,572,864 bytes: per_run 96 x 10, batched max(10 + 96 x 0.6, 157.2864), staged 183.0,
        # zero_copy 10 + 196.608
        (LAYER_MAJOR, (1,) * 24, "batched", 157.2864),
    ],
)
def test_chosen_is_the_cheapest_for_each_job(layout, lengths, way, microseconds):
    cost = LinkCosts(LINK, layout, "chosen").of(make_job(OUT, *lengths))
    assert cost.way == way
    assert cost.seconds == pytest.approx(microseconds * US)


def test_chosen_takes_one_launch_where_entries_outweigh_the_bytes():
    fast = EmulatedLink(call_us=1, gbps=1000, gather_gbps=10_000)
    # 24 runs in 96 pieces of 16,384 bytes, 1,572,864 in all: per_run 96 x 1, batched 1 + 96 x 0.6 = 58.6,
    # zero_copy 1 + 1.96608, staged 1 + 0.1572864 + 1.572864
    cost = LinkCosts(fast, LAYER_MAJOR, "chosen").of(make_job(IN, *[1] * 24))
    assert_cost(cost, "staged", 2.7301504, 1, 2)
    slow_gather = EmulatedLink(call_us=1, gbps=1000, gather_gbps=1000)  # staged 1 + 1.572864 + 1.572864
    assert_cost(LinkCosts(slow_gather, LAYER_MAJOR, "chosen").of(make_job(IN, *[1] * 24)), "zero_copy", 2.96608, 1, 1)


def test_chosen_never_copies_block_by_block():
    free = EmulatedLink(call_us=0, gbps=math.inf)
    assert LinkCosts(free, LAYER_MAJOR, "chosen").of(make_job(OUT, 3)).way == "per_run"


@pytest.mark.parametrize("way", ["per_block", "per_run", "zero_copy", "staged", "chosen"])
def test_a_link_without_cost_costs_nothing(way):
    free = EmulatedLink(call_us=0, gbps=math.inf)
    assert LinkCosts(free, LAYER_MAJOR, way).of(make_job(OUT, 3, 5)).seconds == 0


def test_free_copies_cost_nothing_and_issue_nothing():
    assert FreeCosts().of(make_job(OUT, 3)) == JobCost("free", 0.0, 0, 0)


def test_an_unknown_way_is_refused():
    message = "unknown transfer 'pigeon': known are per_block, per_run, batched, zero_copy, staged, chosen"
    assert message.split(": known are ")[1] == ", ".join([*TRANSFERS, "chosen"])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LinkCosts(LINK, BLOCK_MAJOR, "pigeon")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CalibratedCosts(TABLE, BLOCK_MAJOR, "pigeon")


# A table written by hand. Between 16 KiB and 64 KiB a run's time follows a power: at 32 KiB, half way, it is the square
# root of 1 x 4 = 2 us.
PER_RUN = WayCost(5 * US, (16_384, 65_536), (1 * US, 4 * US))
BATCHED = WayCost(9 * US, (16_384, 65_536), (0.25 * US, 1 * US))
ZERO_COPY = WayCost(3 * US, (16_384, 65_536), (8 * US, 8 * US))
TABLE = TransferCosts(
    {"device": "made up"},
    {
        "device_to_host": {"per_run": PER_RUN, "batched": BATCHED},
        "host_to_device": {"per_run": ZERO_COPY, "batched": PER_RUN},
    },
)


def test_a_calibrated_job_costs_its_start_and_its_runs_by_direction():
    out, back = make_job(OUT, 1, 1), make_job(IN, 1, 1)
    # out, 2 runs of 65,536 bytes: 5 + 2 x 4; in 8 pieces of 16,384: 5 + 8 x 1; back: 3 + 2 x 8 and 3 + 8 x 8
    assert_cost(CalibratedCosts(TABLE, BLOCK_MAJOR, "per_run").of(out), "per_run", 13, 2, 2)
    assert_cost(CalibratedCosts(TABLE, LAYER_MAJOR, "per_run").of(out), "per_run", 13, 8, 8)
    assert_cost(CalibratedCosts(TABLE, BLOCK_MAJOR, "per_run").of(back), "per_run", 19, 2, 2)
    assert_cost(CalibratedCosts(TABLE, LAYER_MAJOR, "per_run").of(back), "per_run", 67, 8, 8)


def test_a_calibrated_run_of_another_size_is_read_off_the_table():
    # one run of 2 blocks in 4 pieces of 32,768 bytes: 5 + 4 x 2; one of 8 blocks, 524,288 bytes: 5 + 4 x 8
    assert_cost(CalibratedCosts(TABLE, LAYER_MAJOR, "per_run").of(make_job(OUT, 2)), "per_run", 13, 4, 4)
    assert_cost(CalibratedCosts(TABLE, BLOCK_MAJOR, "per_run").of(make_job(OUT, 8)), "per_run", 37, 1, 1)


def test_calibrated_per_block_is_per_run_with_a_run_a_block():
    # 4 blocks of 65,536 bytes: 5 + 4 x 4; in 16 pieces: 5 + 16 x 1
    assert_cost(CalibratedCosts(TABLE, BLOCK_MAJOR, "per_block").of(make_job(OUT, 4)), "per_block", 21, 4, 4)
    assert_cost(CalibratedCosts(TABLE, LAYER_MAJOR, "per_block").of(make_job(OUT, 4)), "per_block", 21, 16, 16)


def test_chosen_is_the_cheapest_of_the_table():
    costs = CalibratedCosts(TABLE, BLOCK_MAJOR, "chosen")
    # 1 run: per_run 5 + 4, batched 9 + 1; 2 runs: 5 + 8 and 9 + 2; back, 2 runs: 3 + 16 and 5 + 8
    assert_cost(costs.of(make_job(OUT, 1)), "per_run", 9, 1, 1)
    assert_cost(costs.of(make_job(OUT, 1, 1)), "batched", 11, 2, 1)
    assert_cost(costs.of(make_job(IN, 1, 1)), "batched", 13, 2, 1)


@pytest.mark.parametrize(("direction", "host_column"), [(OUT, 1), (IN, 0)])
def test_calibrated_staged_pays_for_what_is_contiguous_on_the_host(direction, host_column):
    staged = WayCost(2 * US, (65_536, 131_072), (4 * US, 6 * US))
    ways = {"staged": staged, "per_run": PER_RUN}
    table = TransferCosts({"device": "made up"}, {"device_to_host": ways, "host_to_device": ways})
    runs = np.array([[5, 5, 1], [8, 8, 1]])
    runs[:, host_column] = [3, 2]  # apart on the device, adjacent on the host, in the other order
    job = replace(make_job(direction, 1, 1), runs=runs)
    # on the host one run of 131,072 bytes: 2 + 6, not 2 + 2 x 4; per_run 5 + 2 x 4
    assert_cost(CalibratedCosts(table, BLOCK_MAJOR, "chosen").of(job), "staged", 8, 1, 2)
    apart = make_job(direction, 1, 1)
    assert_cost(CalibratedCosts(table, BLOCK_MAJOR, "staged").of(apart), "staged", 2 + 2 * 4, 1, 2)


@pytest.mark.parametrize("way", ["staged", "zero_copy"])
def test_a_way_that_was_not_measured_is_refused(way):
    message = f"the calibration has no way {way}: it has per_run, batched"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CalibratedCosts(TABLE, BLOCK_MAJOR, way)


def test_a_way_that_was_measured_in_one_direction_only_is_refused():
    lame = TransferCosts(
        {"device": "made up"},
        {"device_to_host": {"per_run": PER_RUN, "batched": BATCHED}, "host_to_device": {"per_run": PER_RUN}},
    )
    message = "the calibration has no way batched: it has per_run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CalibratedCosts(lame, BLOCK_MAJOR, "batched")
    assert CalibratedCosts(lame, BLOCK_MAJOR, "chosen").of(make_job(OUT, 1, 1)).way == "per_run"


def test_per_block_without_per_run_is_refused():
    table = TransferCosts({"device": "made up"}, {key: {"batched": BATCHED} for key in DIRECTIONS})
    message = "the calibration has no way per_block: it has batched"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CalibratedCosts(table, BLOCK_MAJOR, "per_block")

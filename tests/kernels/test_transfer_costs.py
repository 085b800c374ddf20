"""The choice among ways against plain arithmetic on invented tables."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.kernels import DIRECTIONS, TransferCosts, WayCost, choose_transfer

MIB = 1 << 20


def linear(job_us, call_us, gbps, sizes=(4096, 65536, MIB)):
    """A way that takes ``job + runs x (call + bytes / link)``."""
    return WayCost(job_us * 1e-6, sizes, tuple(call_us * 1e-6 + size / (gbps * 1e9) for size in sizes))


def table(**ways):
    return TransferCosts({"device": "invented"}, dict.fromkeys(DIRECTIONS, ways))


# A call costs 10 us and no preparation; a batch 20 us and 0.5 us an entry; a kernel 15 us at half the bandwidth.
COSTS = table(per_run=linear(0, 10, 50), batched=linear(20, 0.5, 50), zero_copy=linear(15, 1e-9, 25))


@pytest.mark.parametrize(
    ("num_runs", "bytes_per_run", "way"),
    [
        (1, 4096, "per_run"),  # 10 against 20.6 and 15.2 us
        (2, 4096, "zero_copy"),  # 20.2, 21.2, 15.3
        (2, MIB, "per_run"),  # 61.9, 62.9, 98.9
        (100, 4096, "zero_copy"),  # 1008, 78, 31
        (100, MIB, "batched"),  # 3097, 2167, 4209
    ],
)
def test_picks_what_arithmetic_says(num_runs, bytes_per_run, way):
    for direction in DIRECTIONS:
        assert choose_transfer(direction, num_runs, bytes_per_run, costs=COSTS) == way


@given(
    num_runs=st.integers(1, 10_000),
    size=st.integers(0, 2),
    numbers=st.lists(st.tuples(*[st.floats(1e-3, 1e3)] * 3), min_size=4, max_size=4),
)
def test_picks_the_least_of_the_measured_points_and_a_kernel_only_if_it_gains_a_tenth(num_runs, size, numbers):
    ways = dict(zip(("per_run", "batched", "zero_copy", "staged"), [linear(*each) for each in numbers], strict=True))
    num_bytes = (4096, 65536, MIB)[size]
    seconds = {way: cost.job_s + num_runs * cost.run_s[size] for way, cost in ways.items()}
    seconds |= {way: 1.1 * seconds[way] for way in ("zero_copy", "staged")}
    found = choose_transfer(DIRECTIONS[0], num_runs, num_bytes, costs=table(**ways))
    assert seconds[found] == pytest.approx(min(seconds.values()), rel=1e-9)


@pytest.mark.parametrize("kernel", ["zero_copy", "staged"])
@pytest.mark.parametrize(("takes", "way"), [(9.2, "batched"), (9.0, None)])
def test_copy_engines_are_preferred_to_a_kernel_that_gains_less_than_a_tenth(kernel, takes, way):
    costs = table(batched=linear(0, 10, 1e9), **{kernel: linear(0, takes, 1e9)})
    assert choose_transfer(DIRECTIONS[0], 100, 4096, costs=costs) == (way or kernel)
    assert choose_transfer(DIRECTIONS[0], 100, 4096, costs=costs, ways=[kernel]) == kernel


def test_each_direction_has_its_own_costs():
    costs = TransferCosts(
        {},
        {
            DIRECTIONS[0]: {"per_run": linear(0, 1, 50), "batched": linear(0, 2, 50)},
            DIRECTIONS[1]: {"per_run": linear(0, 2, 50), "batched": linear(0, 1, 50)},
        },
    )
    assert [costs.cheapest(direction, 10, 4096) for direction in DIRECTIONS] == ["per_run", "batched"]


def test_staged_pays_for_what_is_contiguous_on_the_host():
    costs = table(batched=linear(5, 0.5, 50), staged=linear(30, 10, 50))
    assert choose_transfer(DIRECTIONS[0], 1000, 8192, costs=costs) == "batched"
    assert choose_transfer(DIRECTIONS[0], 1000, 8192, num_host_runs=1, costs=costs) == "staged"
    # 30 us, one call of 10 us and 8 MiB at 50 GB/s
    seconds = costs.seconds("staged", DIRECTIONS[0], 1000, 8192, num_host_runs=1)
    assert seconds == pytest.approx(30e-6 + (10e-6 + MIB / 50e9) * 8192_000 / MIB)


def test_only_the_ways_asked_for_are_chosen_from():
    assert choose_transfer(DIRECTIONS[0], 100, 4096, costs=COSTS, ways=["per_run", "batched"]) == "batched"


def test_a_cliff_between_two_sizes_is_followed():
    """As measured on an H100: 24 KiB pieces take longer than 28 KiB ones."""
    cost = WayCost(0.0, (8192, 24576, 28672, 65536), (1.5e-6, 3.6e-6, 0.7e-6, 1.3e-6))
    assert cost.seconds(1, 24576) == pytest.approx(3.6e-6)
    assert cost.seconds(1, 28672) == pytest.approx(0.7e-6)
    assert 0.7e-6 < cost.seconds(1, 26000) < 3.6e-6
    assert cost.seconds(3, 100) == pytest.approx(3 * 1.5e-6)
    assert cost.seconds(1, 2 * 65536) == pytest.approx(2 * 1.3e-6)
    assert (cost.call_s, cost.bytes_per_s) == (1.5e-6, 65536 / 1.3e-6)


def test_json_round_trip():
    assert TransferCosts.from_json(json.loads(json.dumps(COSTS.as_json()))) == COSTS


def both(**ways):
    return {direction: dict(ways) for direction in DIRECTIONS}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"machine": 3, "ways": COSTS.as_json()["ways"]},
        {"machine": {}, "ways": {}},
        {"machine": {}, "ways": {DIRECTIONS[0]: COSTS.as_json()["ways"][DIRECTIONS[0]]}},
        {"machine": {}, "ways": both()},
        {"machine": {}, "ways": both(batched={"job_s": 1.0})},
        {"machine": {}, "ways": both(batched={"job_s": 0.1, "run_bytes": [4], "run_s": [-1.0]})},
        {"machine": {}, "ways": both(batched={"job_s": 0.1, "run_bytes": [4], "run_s": ["x"]})},
        {"machine": {}, "ways": both(batched={"job_s": float("nan"), "run_bytes": [4], "run_s": [1.0]})},
        {"machine": {}, "ways": both(batched={"job_s": 0.1, "run_bytes": [float("inf")], "run_s": [1.0]})},
    ],
)
def test_broken_json_is_no_table(data):
    with pytest.raises(ValueError, match=r"."):
        TransferCosts.from_json(data)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("up", 1, 1), {}, "direction must be one of device_to_host, host_to_device, got 'up'"),
        ((DIRECTIONS[0], 0, 1), {}, "a job has at least one run of one byte, got 0 runs of 1 bytes"),
        ((DIRECTIONS[0], 1, 0), {}, "a job has at least one run of one byte, got 1 runs of 0 bytes"),
        ((DIRECTIONS[0], 1, 1), {"num_host_runs": 0}, "num_host_runs must be at least 1, got 0"),
        (
            (DIRECTIONS[0], 1, 1),
            {"ways": ["staged"]},
            "ways must be among those measured (per_run, batched, zero_copy), got staged",
        ),
        (
            (DIRECTIONS[0], 1, 1),
            {"ways": []},
            "ways must be among those measured (per_run, batched, zero_copy), got none",
        ),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        choose_transfer(*arguments, costs=COSTS, **options)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, (4, 8), (1.0,)), "a cost needs a time a size, got 2 sizes, 1 times"),
        ((0.0, (), ()), "a cost needs a time a size, got 0 sizes, 0 times"),
        ((0.0, (8, 4), (1.0, 1.0)), "run_bytes must rise, got (8, 4)"),
        ((0.0, (4,), (0.0,)), "costs must be positive and finite, got job_s 0.0, run_s (0.0,)"),
        ((-1.0, (4,), (1.0,)), "costs must be positive and finite, got job_s -1.0, run_s (1.0,)"),
    ],
)
def test_a_cost_that_cannot_be_is_refused(numbers, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        WayCost(*numbers)

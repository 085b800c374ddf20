"""The plan is what the evaluation is said to be."""

from collections import Counter

import pytest

from fastswitch.engine.reproduce.case import options_of
from fastswitch.engine.reproduce.plan import (
    ALL_RUNS,
    CAPACITY,
    FOUR_RUNS,
    GROUPS,
    HEADLINE,
    LOAD,
    SENSITIVITY,
    TURNS,
    capacity_cases,
    first_cases,
    later_cases,
)
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.usage import UsageError

CAPACITIES = {
    ("llama8b-a10", "random"): 0.3,
    ("llama8b-a10", "markov"): 0.31,
    ("qwen32b-a100", "random"): 0.2,
    ("qwen32b-a100", "markov"): 0.21,
}


def plan(tmp_path, *, full):
    asked = ReproduceOptions(command="x", report=tmp_path, full=full)
    scales = dict.fromkeys(asked.setups)
    return [
        *capacity_cases(asked, scales),
        *first_cases(asked, scales),
        *later_cases(asked, scales, CAPACITIES),
    ]


def test_the_default(tmp_path):
    cases = plan(tmp_path, full=False)
    assert Counter(case.part for case in cases) == {CAPACITY: 4, HEADLINE: 4, TURNS: 4, LOAD: 10}
    assert {case.options.conversations for case in cases} == {200}
    assert {case.options.seed for case in cases} == {0}
    for case in cases:
        if case.part == HEADLINE:
            assert case.runs == ALL_RUNS
            assert (case.options.arrival, case.options.rate) == ("conversation", 1)
        if case.part == TURNS:
            assert (case.options.arrival, case.options.rate) == ("turn", 1)
    sweep = [(c.setup, c.load, c.options.rate) for c in cases if c.part == LOAD and c.setup == "qwen32b-a100"]
    assert sweep == [("qwen32b-a100", load, pytest.approx(0.2 * load, rel=1e-3)) for load in (0.6, 0.8, 1.0, 1.2, 1.4)]


def test_the_whole(tmp_path):
    cases = plan(tmp_path, full=True)
    headline = [case for case in cases if case.part == HEADLINE]
    assert {case.options.conversations for case in headline} == {1000}
    assert Counter((case.options.seed, case.runs) for case in headline) == {
        (0, ALL_RUNS): 4,
        (1, FOUR_RUNS): 4,
        (2, FOUR_RUNS): 4,
    }
    others = [case for case in cases if case.part != HEADLINE]
    assert {case.options.conversations for case in others} == {200}
    assert {(c.setup, c.priority) for c in others if c.part == LOAD} == set(CAPACITIES)
    changed = {case.changed: set() for case in cases if case.part == SENSITIVITY}
    for case in cases:
        if case.part == SENSITIVITY and case.setup == "llama8b-a10":
            changed[case.changed].add(case.value)
            assert case.options.rate == 0.3, "as many are offered, whatever is changed"
    assert changed["dispatch, us a call"] == {1, 2, 5, 10, 20}
    assert 457_763 in changed["host pool, tokens"]
    assert changed.keys() == {
        "dispatch, us a call",
        "updates an iteration",
        "growth group, blocks",
        "device pool, tokens",
        "host pool, tokens",
        "think time, s",
    }
    groups = [case for case in cases if case.part == GROUPS]
    assert {case.runs for case in groups} == {("modern", "fastswitch")}
    assert Counter(case.options.seed for case in groups) == dict.fromkeys((0, 1, 2), len(groups) // 3)
    asked = {(c.options.link_gbps, c.options.call_us, c.options.host_tokens) for c in groups}
    assert {(gbps, us, host) for gbps in (25.6, 51.2) for us in (1, 2, 5, 10) for host in (None, 60_000)} <= asked


def test_a_setting_changed_to_what_it_is_is_the_same_simulation_as_the_sweeps(tmp_path):
    cases = [case for case in plan(tmp_path, full=True) if case.setup == "llama8b-a10" and case.priority == "random"]
    (sweep,) = (case for case in cases if case.part == LOAD and case.load == 1.0)
    changed = [case for case in cases if case.part == SENSITIVITY]
    own = {case.changed for case in changed if case.simulations == sweep.simulations}
    assert own == {case.changed for case in changed}, "each of the six has the setup's own value among its values"
    distinct = {simulation for case in changed for simulation in case.simulations}
    assert len(distinct) == (len(changed) - len(own) + 1) * len(FOUR_RUNS)


def test_the_command_of_a_case_makes_it():
    options = options_of({"setup": "llama8b-a10", "rate": 0.5, "seed": 0, "host_tokens": 999, "scale": None})
    assert options.command == "fastswitch simulate --setup llama8b-a10 --rate 0.5 --host-tokens 999"
    assert (options.rate, options.host_tokens, options.scale) == (0.5, 999, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"setups": ("gpt-a10",)}, "--setups must be MODEL-HARDWARE"),
        ({"setups": ()}, "--setups must name at least one, such as llama8b-a10"),
        ({"conversations": 0}, "--conversations must be a number of at least 1"),
        ({"workload": "nowhere.jsonl"}, "--workload must be synthetic or a file, no file is 'nowhere.jsonl'"),
    ],
)
def test_options_of_no_use(tmp_path, given, message):
    with pytest.raises(UsageError) as caught:
        ReproduceOptions(command="x", report=tmp_path, **given)
    assert str(caught.value).startswith(message)

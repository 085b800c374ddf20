import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.workloads import Conversation, Turn, Workload, WorkloadError, next_arrival_s, plan_arrivals

W = 120.0  # with LOAD = 1.2 the span is 100 s


def untimed(num_conversations, num_turns=3):
    turns = (Turn(10, 5),) * num_turns
    return Workload("untimed", 0, tuple(Conversation(index, turns) for index in range(num_conversations)))


def timed(arrivals, gaps=()):
    turns = (Turn(10, 5), *(Turn(10, 5, gap_s=gap) for gap in gaps))
    return Workload("timed", 0, tuple(Conversation(index, turns, at) for index, at in enumerate(arrivals)))


def starts(plan):
    return [conversation.start_s for conversation in plan.conversations]


def gaps(plan):
    return [timing.gap_s for conversation in plan.conversations for timing in conversation.turns[1:]]


def thinks(plan):
    return [timing.think_s for conversation in plan.conversations for timing in conversation.turns[1:]]


def test_default_of_a_file_with_times_keeps_its_shape():
    plan = plan_arrivals(timed([5.0, 15.0, 55.0], gaps=[8.0, 4.0]), work_s=W)
    assert starts(plan) == pytest.approx([0.0, 20.0, 100.0])
    assert plan.gap_scale == pytest.approx(2.0)
    assert gaps(plan) == pytest.approx([16.0, 8.0] * 3)
    assert thinks(plan) == [None] * 6
    assert plan.think_mean_s is None


def test_default_of_a_file_without_times():
    plan = plan_arrivals(untimed(2000), work_s=W)
    assert starts(plan)[0] == 0
    assert plan.last_start_s == pytest.approx(100.0)
    assert starts(plan) == sorted(starts(plan))
    spacing = np.diff(starts(plan))
    assert np.std(spacing) / np.mean(spacing) == pytest.approx(1, abs=0.1)
    assert plan.think_mean_s == pytest.approx(10.0)
    assert np.mean(thinks(plan)) == pytest.approx(10.0, rel=0.05)
    assert np.std(thinks(plan)) == pytest.approx(10.0, rel=0.08)
    assert plan.gap_scale is None


def test_rate_is_literal_and_overrides_recorded_arrivals():
    drawn = plan_arrivals(untimed(3000), rate=4.0, think_s=1.0)
    assert 3000 / drawn.last_start_s == pytest.approx(4.0, rel=0.05)
    recorded = plan_arrivals(timed([7.0 * index for index in range(3000)]), rate=4.0, work_s=W)
    assert starts(recorded) == starts(drawn)


def test_rate_by_turn_is_divided_by_the_mean_number_of_turns():
    by_turn = plan_arrivals(untimed(50, num_turns=4), rate=8.0, arrival="turn", think_s=1.0)
    by_conversation = plan_arrivals(untimed(50, num_turns=4), rate=2.0, think_s=1.0)
    assert by_turn == by_conversation


def test_time_scale_is_literal():
    plan = plan_arrivals(timed([5.0, 15.0], gaps=[8.0]), time_scale=0.5, work_s=W)
    assert starts(plan) == [0.0, 5.0]
    assert gaps(plan) == [4.0, 4.0]
    assert plan == plan_arrivals(timed([5.0, 15.0], gaps=[8.0]), time_scale=0.5)


def test_time_scale_scales_gaps_where_rate_draws_the_starts():
    plan = plan_arrivals(timed([5.0, 15.0], gaps=[8.0]), rate=1.0, time_scale=0.5)
    assert gaps(plan) == [4.0, 4.0]
    assert starts(plan) == starts(plan_arrivals(untimed(2), rate=1.0))


def test_think_is_literal_and_stands_in_for_gaps():
    plan = plan_arrivals(timed([float(index) for index in range(2000)], gaps=[8.0]), think_s=3.0, work_s=W)
    assert gaps(plan) == [None] * 2000
    assert np.mean(thinks(plan)) == pytest.approx(3.0, rel=0.06)
    assert plan.think_mean_s == 3.0
    assert plan.gap_scale is None
    assert thinks(plan_arrivals(untimed(2), think_s=0, work_s=W)) == [0.0] * 4


def test_think_times_are_a_tenth_of_the_span_of_work_even_with_a_rate():
    assert plan_arrivals(untimed(5), rate=1.0, work_s=W).think_mean_s == pytest.approx(10.0)
    plan = plan_arrivals(untimed(5), rate=1.0)
    assert plan.think_mean_s == pytest.approx(plan.last_start_s / 10)


def test_one_conversation_starts_at_once():
    assert starts(plan_arrivals(untimed(1), work_s=W)) == [0.0]
    assert starts(plan_arrivals(untimed(1), rate=0.001)) == [0.0]
    plan = plan_arrivals(timed([77.0], gaps=[4.0, 6.0]), work_s=W)
    assert starts(plan) == [0.0]
    assert gaps(plan) == pytest.approx([40.0, 60.0])
    assert gaps(plan_arrivals(timed([77.0], gaps=[4.0, 6.0]), rate=1.0)) == [4.0, 6.0]


def test_all_at_once_stays_so():
    plan = plan_arrivals(timed([3.0, 3.0], gaps=[0.0]), work_s=W)
    assert starts(plan) == [0.0, 0.0]
    assert gaps(plan) == [0.0, 0.0]


def test_gaps_without_arrivals_fill_the_span():
    workload = timed([None, None], gaps=[4.0, 6.0])
    plan = plan_arrivals(workload, work_s=W)
    assert gaps(plan) == pytest.approx([40.0, 60.0] * 2)
    assert plan.last_start_s == pytest.approx(100.0)


def test_draws_depend_on_seed_and_indices_alone():
    large, small = plan_arrivals(untimed(20), rate=1, think_s=1), plan_arrivals(untimed(5), rate=1, think_s=1)
    assert small.conversations == large.conversations[:5]
    shorter = plan_arrivals(untimed(20, num_turns=2), rate=1, think_s=1)
    assert [each.turns for each in shorter.conversations] == [each.turns[:2] for each in large.conversations]
    assert large != plan_arrivals(untimed(20), rate=1, think_s=1, seed=1)
    assert len(set(thinks(large))) == 40


def test_a_mixed_conversation_waits_for_what_each_turn_has():
    turns = (Turn(1, 1), Turn(1, 1, gap_s=2.0), Turn(1, 1))
    plan = plan_arrivals(Workload("mixed", 0, (Conversation(0, turns, 0.0), Conversation(1, turns, 50.0))), work_s=W)
    first, second, third = plan.conversations[0].turns
    assert (first.gap_s, first.think_s) == (None, None)
    assert (second.gap_s, second.think_s) == (pytest.approx(4.0), None)
    assert third.gap_s is None
    assert third.think_s > 0


times = st.floats(0, 1e6)


@settings(derandomize=True)
@given(st.lists(times, min_size=1, max_size=10).map(sorted), st.lists(times, max_size=4), times, times, st.booleans())
def test_no_turn_arrives_before_the_previous_one_ended(arrivals, gap_list, arrived, took, use_think):
    workload = timed(arrivals, gap_list)
    plan = plan_arrivals(workload, work_s=W, think_s=2.0 if use_think else None)
    assert all(0 <= start <= W / 1.2 * (1 + 1e-12) for start in starts(plan))
    for turn in range(1, len(gap_list) + 1):
        timing = plan.conversations[0].turns[turn]
        arrives = next_arrival_s(plan, 0, turn, arrived, arrived + took)
        assert arrives >= arrived + took
        if use_think:
            assert arrives == arrived + took + timing.think_s
        else:
            assert arrives == max(arrived + timing.gap_s, arrived + took)


RANGE = "must be a number of 1e-09 to 1e+09, got"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, f"rate {RANGE} 0.0"),
        ({"rate": math.nan}, f"rate {RANGE} nan"),
        ({"rate": math.inf}, f"rate {RANGE} inf"),
        ({"time_scale": -1.0}, f"time_scale {RANGE} -1.0"),
        ({"work_s": 0}, f"work_s {RANGE} 0"),
        ({"think_s": -1}, "think_s must be a number of 0 to 1e+09, got -1"),
        ({"rate": 1, "arrival": "token"}, "arrival must be conversation or turn, got 'token'"),
        ({}, "work_s must be given where neither rate nor time_scale says when conversations start"),
        (
            {"time_scale": 2.0, "rate": 1.0},
            "time_scale 2.0 finds no recorded times in untimed; use rate and think_s",
        ),
        ({"rate": 1.0, "seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(WorkloadError) as caught:
        plan_arrivals(untimed(2), **options)
    assert str(caught.value) == message


def test_time_not_scaled_is_no_demand_for_recorded_times():
    assert plan_arrivals(untimed(3), rate=1.0, think_s=10.0, time_scale=1.0) == plan_arrivals(
        untimed(3), rate=1.0, think_s=10.0
    )


def test_a_first_turn_has_no_predecessor():
    plan = plan_arrivals(replace(untimed(1), name="one"), work_s=W)
    with pytest.raises(WorkloadError) as caught:
        next_arrival_s(plan, 0, 0, 0.0, 0.0)
    assert str(caught.value) == "turn must be at least 1, got 0; a first turn arrives at its conversation's start"

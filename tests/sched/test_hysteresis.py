"""A threshold of advantage: what it forbids, and that it changes nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import (
    FCFS,
    Hysteresis,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Scheduler,
    SwapOut,
)
from tests.sched.fakes import idle, pools, running, waiting


def place(requests, room, **thresholds):
    ranker = Hysteresis(PriorityTrace(None), **thresholds)
    return Scheduler(ranker, PrefillFirst(), SwapOut()).place(requests, room)


def evicted(requests, **thresholds):
    return [eviction.request_id for eviction in place(requests, pools(), **thresholds).evictions]


@pytest.mark.parametrize(("min_levels", "leave"), [(0, [1]), (1, [1]), (2, [1]), (3, [])])
def test_so_many_levels_better(min_levels, leave):
    assert evicted([waiting(0, 2, priority=1), running(1, 3, priority=3)], min_levels=min_levels) == leave


def test_within_a_level_nobody_from_one_level_on():
    requests = [waiting(0, 2, priority=1), running(1, 3, priority=1)]
    assert evicted(requests) == [1]
    assert evicted(requests, min_levels=1) == []


def test_no_level_counts_as_level_0():
    assert evicted([waiting(0, 2), running(1, 3, priority=1)], min_levels=1) == [1]
    assert evicted([waiting(0, 2), running(1, 3)], min_levels=1) == []


@pytest.mark.parametrize(("stayed", "leave"), [(0, []), (4, []), (5, [1]), (6, [1])])
def test_so_many_tokens_since_it_came(stayed, leave):
    requests = [waiting(0, 2, priority=0), running(1, 3, priority=3, tokens_since_placed=stayed)]
    assert evicted(requests, min_stay=5) == leave


def test_the_one_above_goes_instead():
    requests = [
        waiting(0, 2, priority=0),
        running(1, 3, priority=1, tokens_since_placed=9),
        running(2, 3, priority=3, tokens_since_placed=1),
    ]
    assert evicted(requests, min_stay=5) == [1]


def test_idle_ones_go_at_once():
    assert evicted([waiting(0, 2, priority=3), idle(1, 3, 0.0, priority=3)], min_levels=3, min_stay=99) == [1]


def test_the_lowest_that_cannot_grow_leaves_all_the_same():
    """Else nobody could leave a full device whose residents all have to grow."""
    requests = [running(0, 2, 1, priority=0), running(1, 2, 1, priority=0)]
    placement = place(requests, pools(), min_levels=1, min_stay=99)
    assert ([each.request_id for each in placement.evictions], placement.sitting_out) == ([1], {0, 1})


@given(st.integers(0, 3), st.integers(0, 9), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9), st.booleans())
def test_allows_what_the_ranker_allows_and_never_more(min_levels, min_stay, level, other, stayed, earlier):
    challenger = waiting(0 if earlier else 2, 1, priority=level)
    holder = running(1, 1, priority=other, tokens_since_placed=stayed)
    for ranker in (FCFS(), PriorityTrace(None)):
        allowed = Hysteresis(ranker, min_levels=min_levels, min_stay=min_stay).may_preempt(challenger, holder)
        enough = other - level >= min_levels or not min_levels
        assert allowed == (ranker.may_preempt(challenger, holder) and enough and stayed >= min_stay)


def test_all_else_is_the_rankers():
    plain, steady = (PriorityTrace(RandomPriorities(0), 0.5) for _ in range(2))
    steady = Hysteresis(steady, min_levels=2)
    requests = [waiting(i, 1) for i in range(20)]
    assert steady.order(requests) == plain.order(requests)
    assert steady.is_due(2) is plain.is_due(2) is True
    assert steady.new_levels(requests, 2) == plain.new_levels(requests, 2) != {}
    assert steady.is_due(2) is False
    assert steady.forecast(requests, 4) == plain.forecast(requests, 4) is not None


@pytest.mark.parametrize("name", ["min_levels", "min_stay"])
def test_a_threshold_is_not_negative(name):
    with pytest.raises(ValueError, match=rf"^{name} must not be negative, got -1$"):
        Hysteresis(FCFS(), **{name: -1})

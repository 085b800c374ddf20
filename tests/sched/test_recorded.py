"""Levels that were written down."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fastswitch.sched import PriorityTrace, RecordedPriorities
from tests.sched.fakes import waiting

ENTRIES = st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=6)


@given(st.dictionaries(st.integers(0, 4), ENTRIES), st.integers(0, 4), st.integers(0, 40))
def test_a_level_holds_until_the_next_entry(record, conversation, update):
    entries = [(u, level) for u, level in record.get(conversation, {}).items() if u <= update]
    expected = max(entries)[1] if entries else 0
    recorded = RecordedPriorities(record)
    assert recorded.level(conversation, update) == expected
    assert recorded.levels([conversation, 9], update) == [expected, 0]


def test_a_priority_trace_follows_it():
    ranker = PriorityTrace(RecordedPriorities({0: {1: 3}, 1: {0: 2, 2: 0}}), 0.5)
    requests = [waiting(0, 1), waiting(1, 1)]
    orders = []
    for iteration in range(6):
        for request_id, level in ranker.new_levels(requests, iteration).items():
            requests[request_id].priority = level
        orders.append([request.request_id for request in ranker.order(requests)])
    assert orders == [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]]
    assert [request.priority for request in requests] == [3, 0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({0: {0: 4}}, "a level must be 0 to 3, got 4"),
        ({0: {0: -1}}, "a level must be 0 to 3, got -1"),
        ({-1: {0: 1}}, "indices must not be negative, got conversation -1, update 0"),
        ({1: {-2: 1}}, "indices must not be negative, got conversation 1, update -2"),
    ],
)
def test_a_record_is_checked(record, message):
    with pytest.raises(ValueError) as refused:
        RecordedPriorities(record)
    assert str(refused.value) == message

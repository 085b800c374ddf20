import numpy as np
import pytest

from fastswitch.engine.workloads import WorkloadError, synthetic_workload
from fastswitch.engine.workloads.synthetic import MAX_CONTEXT, MAX_TURNS

# the published table: mean, then percentiles 10, 50, 90, 99, 100
TURNS = (3.64, 1, 3, 7, 14, 62)
USER = (86, 5, 18, 144, 1409, 3503)
ANSWER = (326, 38, 271, 682, 1252, 3535)


@pytest.fixture(scope="module")
def many():
    return synthetic_workload(seed=1, conversations=20_000)


def figures(values):
    return np.array([np.mean(values), *np.percentile(values, [10, 50, 90, 99, 100])])


def test_turns_as_published(many):
    counts = np.array([len(each.turns) for each in many.conversations])
    ours = figures(counts)
    assert ours[0] == pytest.approx(TURNS[0], rel=0.05)
    assert tuple(ours[1:4]) == TURNS[1:4]
    assert ours[4] == pytest.approx(TURNS[4], abs=1)
    assert 40 <= ours[5] <= MAX_TURNS
    assert np.mean(counts >= 2) == pytest.approx(0.736, abs=0.01)
    assert np.mean(counts >= 3) == pytest.approx(0.574, abs=0.01)


@pytest.mark.parametrize(("name", "published"), [("input_tokens", USER), ("output_tokens", ANSWER)])
def test_lengths_as_published(many, name, published):
    ours = figures([getattr(turn, name) for each in many.conversations for turn in each.turns])
    assert ours[0] == pytest.approx(published[0], rel=0.05)
    assert ours[1] == pytest.approx(published[1], rel=0.25, abs=2)
    assert ours[2:] == pytest.approx(np.array(published[2:]), rel=0.12)
    assert ours[5] <= published[5]


def test_no_conversation_is_longer_than_the_data(many):
    assert MAX_CONTEXT - 60 < many.max_context <= MAX_CONTEXT
    longest = synthetic_workload(conversations=20, min_turns=MAX_TURNS)
    assert {len(each.turns) for each in longest.conversations} == {MAX_TURNS}
    assert longest.max_context <= MAX_CONTEXT


def test_min_turns_conditions_the_distribution():
    counts = [len(each.turns) for each in synthetic_workload(conversations=5000, min_turns=3).conversations]
    assert min(counts) == 3
    assert np.mean(counts) == pytest.approx(5.32, rel=0.06)


def test_a_smaller_workload_begins_a_larger_one():
    small, large = synthetic_workload(conversations=5), synthetic_workload(conversations=50)
    assert small.conversations == large.conversations[:5]
    assert small == synthetic_workload(conversations=5)
    assert small.conversations != synthetic_workload(conversations=5, seed=1).conversations
    assert (small.name, small.records_arrivals, small.records_gaps) == ("synthetic", False, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conversations": 0}, "conversations must be at least 1, got 0"),
        ({"min_turns": 0}, "min_turns of a synthetic workload must be 1 to 62, got 0"),
        ({"min_turns": 63}, "min_turns of a synthetic workload must be 1 to 62, got 63"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(WorkloadError) as caught:
        synthetic_workload(**options)
    assert str(caught.value) == message

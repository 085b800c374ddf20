"""A schedule as lines of JSON, and where two of them part."""

from dataclasses import replace

import pytest

from fastswitch.sched import Decision, first_difference

FIRST = Decision(0, (2, 0, 1), ((1, "swap_out"),), (2,), (0,), ((2, 5, 1), (0, 0, 3)))
SECOND = Decision(1, (2, 0), (), (), (), ((2, 6, 1),))


def test_comes_back_from_its_line():
    assert Decision.from_json(FIRST.to_json()) == FIRST
    assert Decision.from_json(FIRST.to_json(run="paper")) == FIRST
    assert FIRST.to_json(run="paper").startswith('{"run":"paper","iteration":0,"ranked":[2,0,1],')
    assert "\n" not in FIRST.to_json()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json", "not a decision: JSONDecodeError Expecting value: line 1 column 1 (char 0) in 'not json'"),
        ('{"iteration":0}', "not a decision: KeyError 'ranked' in '{\"iteration\":0}'"),
        ("[1]", "not a decision: TypeError list indices must be integers or slices, not str in '[1]'"),
    ],
)
def test_what_is_no_decision_is_refused_in_one_line(line, why):
    with pytest.raises(ValueError, match="^not a decision") as error:
        Decision.from_json(line)
    assert str(error.value) == why


def test_equal_schedules_do_not_part():
    assert first_difference([FIRST, SECOND], iter([FIRST, SECOND])) is None
    assert first_difference([], []) is None


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ([FIRST], "step 1: only the one schedule goes on"),
        ([FIRST, SECOND, SECOND], "step 2: only the other schedule goes on"),
        (
            [FIRST, replace(SECOND, packed=((0, 3, 1),))],
            "step 1, packed: ((2, 6, 1),) in the one schedule, ((0, 3, 1),) in the other",
        ),
        (
            [replace(FIRST, evicted=((1, "recompute"),)), SECOND],
            "step 0, evicted: ((1, 'swap_out'),) in the one schedule, ((1, 'recompute'),) in the other",
        ),
    ],
)
def test_says_where_they_part(other, where):
    assert first_difference([FIRST, SECOND], other) == where


def test_reads_no_further_than_where_they_part():
    def endless():
        yield SECOND
        raise AssertionError("was read on")

    assert first_difference([FIRST, SECOND], endless()).startswith("step 0, iteration:")

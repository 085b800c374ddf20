"""The measures of fairness against sums done by hand, and the gap against every pair and every interval."""

from __future__ import annotations

import doctest
import itertools

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fastswitch.engine import fairness
from fastswitch.engine.fairness import backlogged_windows, jain_index, service_gaps


@pytest.mark.parametrize(
    ("amounts", "index"),
    [
        ([3.0], 1.0),
        ([2.0, 2.0, 2.0], 1.0),
        ([6.0, 0.0, 0.0], 1 / 3),
        ([1.0, 2.0, 3.0], 36 / 42),  # 6^2 / (3 x (1 + 4 + 9))
        ([20.0, 10.0], 0.9),
        ([], None),
        ([0.0, 0.0], None),
    ],
)
def test_jain_index(amounts, index):
    assert jain_index(amounts) == (index if index is None else pytest.approx(index))


def test_its_example():
    result = doctest.testmod(fairness)
    assert result.attempted
    assert not result.failed


def test_the_gap_counts_only_while_both_wait():
    # a and b wait in iterations 1 to 3 and again in 5; c in 3 alone
    service = np.array([[90, 0, 0], [5, 2, 0], [0, 4, 0], [6, 1, 1], [50, 0, 0], [0, 3, 0]], np.float64)
    backlogged = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]], np.bool_)
    # ends at 1: a leads by 3; 2: b by 4; 3: a by 5 (of this one alone, or 3 - 4 + 5 = 4) and by 5 over c; 5: b by 3
    assert service_gaps(service, backlogged).tolist() == [0, 3, 4, 5, 0, 3]


def test_a_gap_adds_up_over_iterations_and_ends_with_the_waiting():
    service = np.array([[2.0, 0.0]] * 6)
    backlogged = np.array([[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 1]], np.bool_)
    assert service_gaps(service, backlogged).tolist() == [2, 4, 0, 2, 4, 6]
    assert service_gaps(service, ~backlogged).tolist() == [0] * 6


def brute_force(service, backlogged):
    """By the definition: every pair, every interval in which both wait throughout."""
    largest = 0.0
    for i, j in itertools.combinations(range(service.shape[1]), 2):
        for start, end in itertools.combinations(range(len(service) + 1), 2):
            if backlogged[start:end, i].all() and backlogged[start:end, j].all():
                largest = max(largest, abs((service[start:end, i] - service[start:end, j]).sum()))
    return largest


@st.composite
def histories(draw):
    shape = draw(st.tuples(st.integers(0, 9), st.integers(1, 4)))
    service = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 9)))
    return service.astype(np.float64), draw(
        arrays.arrays(np.bool_, shape, elements=st.sampled_from([True, True, False]))
    )


@given(histories())
def test_the_largest_gap_is_that_of_all_pairs_and_intervals(history):
    service, backlogged = history
    assert service_gaps(service, backlogged).max(initial=0.0) == brute_force(service, backlogged)


def test_windows_hold_those_who_wait_throughout():
    times_s = np.array([0.5, 1.0, 1.9, 2.0, 3.9, 6.5])
    service = np.array([[1, 2, 3], [1, 0, 0], [5, 5, 5], [7, 0, 1], [0, 2, 1], [4, 4, 4]], np.float64)
    backlogged = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 1], [1, 0, 0]], np.bool_)
    # [0, 2): a and b; [2, 4): b and c; [4, 6): nothing ran; [6, 8): a alone
    windows = [window.tolist() for window in backlogged_windows(times_s, service, backlogged, 2.0)]
    assert windows == [[7, 7], [2, 2]]
    assert list(backlogged_windows(times_s[:0], service[:0], backlogged[:0], 2.0)) == []

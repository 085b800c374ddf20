"""`cut_runs` against a loop over blocks that begins a new run at every edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory import cut_runs

RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30)), max_size=6)
EVERY = st.none() | st.integers(1, 12)


def as_runs(rows):
    return np.array(rows, np.int64).reshape(-1, 3)


def cut_runs_reference(rows, src_every, dst_every):
    """The specification: a run begins with a row, and at every block that is a multiple of either number."""
    runs = []
    for src_start, dst_start, num_blocks in rows:
        for i in range(num_blocks):
            src, dst = src_start + i, dst_start + i
            edge = (src_every and src % src_every == 0) or (dst_every and dst % dst_every == 0)
            if i == 0 or edge:
                runs.append([src, dst, 0])
            runs[-1][2] += 1
    return runs


def pairs_of(rows):
    return [(src + i, dst + i) for src, dst, num_blocks in rows for i in range(num_blocks)]


def crosses(start, num_blocks, every):
    return every is not None and any(block % every == 0 for block in range(start + 1, start + num_blocks))


@given(RUNS, EVERY, EVERY)
def test_equals_the_reference(rows, src_every, dst_every):
    runs = cut_runs(as_runs(rows), src_every=src_every, dst_every=dst_every)
    assert runs.tolist() == cut_runs_reference(rows, src_every, dst_every)
    assert runs.dtype == np.int64
    assert runs.shape[1] == 3


@given(RUNS, EVERY, EVERY)
def test_the_same_pairs_in_the_same_order_and_no_run_crosses_an_edge(rows, src_every, dst_every):
    runs = cut_runs(as_runs(rows), src_every=src_every, dst_every=dst_every).tolist()
    assert pairs_of(runs) == pairs_of(rows)
    for src, dst, num_blocks in runs:
        assert num_blocks >= 1
        assert not crosses(src, num_blocks, src_every)
        assert not crosses(dst, num_blocks, dst_every)


@given(RUNS, EVERY, EVERY)
def test_cuts_nowhere_else(rows, src_every, dst_every):
    """Two neighbours of one row meet at an edge."""
    runs = cut_runs(as_runs(rows), src_every=src_every, dst_every=dst_every).tolist()
    ends = np.cumsum([num_blocks for _, _, num_blocks in rows])
    done = 0
    for src, dst, num_blocks in runs:
        done += num_blocks
        if done not in ends:
            at_edge = (src_every and (src + num_blocks) % src_every == 0) or (
                dst_every and (dst + num_blocks) % dst_every == 0
            )
            assert at_edge


@pytest.mark.parametrize(
    ("rows", "edges"),
    [
        ([], {"src_every": 4, "dst_every": 4}),
        ([[3, 5, 9]], {}),
        ([[4, 3, 4], [1, 0, 3]], {"src_every": 4}),
        ([[3, 4, 4], [0, 1, 3]], {"dst_every": 4}),
    ],
)
def test_runs_that_cross_nothing_are_given_back(rows, edges):
    runs = as_runs(rows)
    assert cut_runs(runs, **edges) is runs


def test_cutting_leaves_the_runs_alone():
    runs = as_runs([[3, 0, 9]])
    cut_runs(runs, src_every=4)
    assert runs.tolist() == [[3, 0, 9]]


@pytest.mark.parametrize(
    ("rows", "edges", "expected"),
    [
        ([[3, 20, 9]], {"src_every": 4}, [[3, 20, 1], [4, 21, 4], [8, 25, 4]]),
        ([[3, 20, 9]], {"dst_every": 25}, [[3, 20, 5], [8, 25, 4]]),
        ([[3, 20, 9]], {"src_every": 5, "dst_every": 12}, [[3, 20, 2], [5, 22, 2], [7, 24, 3], [10, 27, 2]]),
        ([[0, 0, 3]], {"src_every": 1}, [[0, 0, 1], [1, 1, 1], [2, 2, 1]]),
        ([[2**40, 0, 2**33]], {"src_every": 2**32}, [[2**40, 0, 2**32], [2**40 + 2**32, 2**32, 2**32]]),
    ],
)
def test_cases(rows, edges, expected):
    assert cut_runs(as_runs(rows), **edges).tolist() == expected


@pytest.mark.parametrize("every", [0, -4])
@pytest.mark.parametrize("name", ["src_every", "dst_every"])
def test_edges_need_a_positive_distance(name, every):
    with pytest.raises(ValueError) as caught:
        cut_runs(as_runs([]), **{name: every})
    assert str(caught.value) == f"{name} must be positive, got {every}"

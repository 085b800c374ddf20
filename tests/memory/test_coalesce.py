"""`coalesce` against a loop that extends one run at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory import coalesce


def coalesce_reference(src_ids: list[int], dst_ids: list[int]) -> list[list[int]]:
    """The specification: a run goes on while both sides take the same step of +1 or -1."""
    runs: list[tuple[list[int], list[int]]] = []
    for src, dst in zip(src_ids, dst_ids, strict=True):
        if runs:
            src_run, dst_run = runs[-1]
            step = src - src_run[-1]
            known = src_run[-1] - src_run[-2] if len(src_run) > 1 else step
            if step == dst - dst_run[-1] == known and abs(step) == 1:
                src_run.append(src)
                dst_run.append(dst)
                continue
        runs.append(([src], [dst]))
    return [[min(src_run), min(dst_run), len(src_run)] for src_run, dst_run in runs]


@st.composite
def pieces(draw):
    """Ids as pieces that ascend, descend or stand still on each side; destinations are distinct."""
    src: list[int] = []
    dst: list[int] = []
    for piece in range(draw(st.integers(0, 6))):
        num_blocks = draw(st.integers(1, 5))
        src_start, dst_start = draw(st.integers(0, 40)), piece * draw(st.sampled_from([5, 8]))
        src_ids = [src_start + draw(st.sampled_from([0, 1])) * i for i in range(num_blocks)]
        dst_ids = [dst_start + i for i in range(num_blocks)]
        src += src_ids[:: draw(st.sampled_from([1, -1]))]
        dst += dst_ids[:: draw(st.sampled_from([1, -1]))]
    distinct = {d: s for s, d in zip(src, dst, strict=True)}
    return list(distinct.values()), list(distinct)


@given(pieces())
def test_equals_the_reference(ids):
    runs = coalesce(*ids)
    assert runs.tolist() == coalesce_reference(*ids)
    assert runs.dtype == np.int64
    assert runs.shape[1] == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_same_pairs_are_copied_whatever_the_ids(pairs):
    src, dst = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    copied = [(s + i, d + i) for s, d, n in coalesce(src, dst).tolist() for i in range(n)]
    assert sorted(copied) == sorted(pairs)


@pytest.mark.parametrize(
    ("src", "dst", "runs"),
    [
        ([], [], []),
        ([3], [9], [[3, 9, 1]]),
        ([3, 4, 5], [7, 8, 9], [[3, 7, 3]]),
        ([5, 4, 3], [9, 8, 7], [[3, 7, 3]]),
        ([3, 4, 5], [9, 8, 7], [[3, 9, 1], [4, 8, 1], [5, 7, 1]]),
        ([3, 4, 3], [7, 8, 7], [[3, 7, 2], [3, 7, 1]]),
        ([3, 3, 3], [7, 8, 9], [[3, 7, 1], [3, 8, 1], [3, 9, 1]]),
        ([1, 2, 8, 7], [1, 2, 8, 7], [[1, 1, 2], [7, 7, 2]]),
    ],
)
def test_cases(src, dst, runs):
    assert coalesce(src, dst).tolist() == runs


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_any_integer_type(dtype):
    assert coalesce(np.array([7, 6, 5], dtype), np.array([2, 1, 0], dtype)).tolist() == [[5, 0, 3]]


@pytest.mark.parametrize(
    ("src", "dst", "error", "message"),
    [
        ([1, 2], [1], ValueError, "src_ids and dst_ids must have one length, got 2 and 1"),
        ([1.0], [1], TypeError, "src_ids must be integers, got float64"),
        ([1], [True], TypeError, "dst_ids must be integers, got bool"),
        ([[1]], [1], ValueError, "src_ids must be one-dimensional, got shape (1, 1)"),
    ],
)
def test_errors(src, dst, error, message):
    with pytest.raises(error) as caught:
        coalesce(src, dst)
    assert str(caught.value) == message

"""Runs drawn for property tests: rows (src_start, dst_start, num_blocks) whose destinations are disjoint."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def disjoint_runs(draw, num_src, num_dst):
    """Runs into some of the ``num_dst`` blocks, in any order; sources may repeat."""
    runs, start = [], 0
    while start < num_dst:
        length = draw(st.integers(1, min(num_src, num_dst - start)))
        if draw(st.booleans()):
            runs.append((draw(st.integers(0, num_src - length)), start, length))
        start += length
    return as_rows(draw(st.permutations(runs)))


@st.composite
def filling_runs(draw, num_src, max_runs=5):
    """Runs that fill ``[0, total)``, in any order."""
    runs, start = [], 0
    for length in draw(st.lists(st.integers(1, num_src), max_size=max_runs)):
        runs.append((draw(st.integers(0, num_src - length)), start, length))
        start += length
    return as_rows(draw(st.permutations(runs)))


def as_rows(runs):
    return np.array(runs, dtype=np.int64).reshape(-1, 3)


def expanded(runs):
    """Source and destination ids, block by block."""
    blocks = [(s + i, d + i) for s, d, length in runs.tolist() for i in range(length)]
    return [s for s, _ in blocks], [d for _, d in blocks]

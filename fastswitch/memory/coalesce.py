"""Merge block-by-block copies into runs that are contiguous on both sides.

A copy of n scattered blocks costs n calls; the same blocks in r runs cost r. A run may ascend or descend: the bytes of
blocks 7, 6, 5 going to 3, 2, 1 are one piece, given from its low end.

Paper: FastSwitch (arXiv 2411.18424) copies block groups; both sides of a copy are groups of one allocator.
Ours:  runs are found from the ids alone, so any two allocators, or a foreign engine's block tables, can be paired.
Invariant: expanding the runs gives the same set of (source, destination) pairs, each as often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["coalesce"]


def coalesce(src_ids: ArrayLike, dst_ids: ArrayLike) -> NDArray[np.int64]:
    """Return the maximal runs of blocks that are contiguous in the source and in the destination.

    One that descends on both sides is given from its low end; one that descends on one side only is no run. The runs
    are maximal if the destination ids are distinct. Neither range nor duplicates are checked: the copy does that.

    >>> coalesce([4, 5, 6, 9], [0, 1, 2, 3]).tolist()
    [[4, 0, 3], [9, 3, 1]]
    >>> coalesce([7, 6, 5], [3, 2, 1]).tolist()
    [[5, 1, 3]]

    Args:
        src_ids: ``[n]`` integers, block ids in the source pool.
        dst_ids: ``[n]`` integers, block ids in the destination pool.

    Returns:
        int64 ``[num_runs, 3]``: rows of (src_start, dst_start, num_blocks), in the order of the ids.

    Raises:
        TypeError: if the ids are not integers.
        ValueError: if the ids are not one-dimensional, or the lengths differ.
    """
    src, dst = _as_ids("src_ids", src_ids), _as_ids("dst_ids", dst_ids)
    if len(src) != len(dst):
        raise ValueError(f"src_ids and dst_ids must have one length, got {len(src)} and {len(dst)}")
    if not len(src):
        return np.empty((0, 3), np.int64)
    first = _run_starts(src, dst)
    last = np.empty_like(first)
    last[:-1] = first[1:] - 1
    last[-1] = len(src) - 1
    runs = np.empty((len(first), 3), np.int64)
    np.minimum(src[first], src[last], out=runs[:, 0])
    np.minimum(dst[first], dst[last], out=runs[:, 1])
    np.subtract(last + 1, first, out=runs[:, 2])
    return runs


def _run_starts(src: NDArray[np.int64], dst: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices at which a new run begins: [num_runs], ascending, the first one 0."""
    src_step, dst_step = src[1:] - src[:-1], dst[1:] - dst[:-1]
    together = src_step == dst_step
    # where the next block continues this one in that direction on both sides
    up, down = together & (src_step == 1), together & (src_step == -1)
    starts = np.ones(len(src), np.bool_)
    np.logical_not(up | down, out=starts[1:])
    # 3, 4, 3: the last block would continue the run backwards, over itself
    starts[2:] |= (up[1:] & down[:-1]) | (down[1:] & up[:-1])
    return np.flatnonzero(starts)


def _as_ids(name: str, ids: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    # numpy reads an empty list as float64
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)

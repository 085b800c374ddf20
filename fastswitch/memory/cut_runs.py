"""Cut runs of blocks where a copy must end: at the edges of a pool's separately page-locked pieces.

Paper: none of this; the text of FastSwitch (arXiv 2411.18424) that we have does not say how host memory is page-locked.
Ours:  the edges lie at the multiples of one number of blocks, so that block ids alone say where to cut.
Invariants:
1. Expanding the runs gives the same (source, destination) pairs in the same order.
2. No run goes on past a multiple, and runs are cut nowhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut_runs"]


def cut_runs(
    runs: NDArray[np.int64], *, src_every: int | None = None, dst_every: int | None = None
) -> NDArray[np.int64]:
    """Return the runs, each cut wherever a multiple of ``src_every`` or ``dst_every`` falls inside it.

    O(runs), in numpy; where nothing is to be cut, the result is ``runs`` itself.

    >>> runs = np.array([[5, 0, 6], [0, 20, 4]])
    >>> cut_runs(runs, src_every=4).tolist()
    [[5, 0, 3], [8, 3, 3], [0, 20, 4]]
    >>> cut_runs(runs, src_every=100) is runs
    True

    Args:
        runs: int64 ``[n, 3]``: rows of (src_start, dst_start, num_blocks), each of at least 1 block; not checked.
        src_every: blocks between two edges of the source; None for a source without edges.
        dst_every: likewise of the destination.

    Returns:
        int64 ``[num_runs, 3]``, in the order of ``runs``.

    Raises:
        ValueError: if ``src_every`` or ``dst_every`` is not positive.
    """
    for name, column, every in (("src_every", 0, src_every), ("dst_every", 1, dst_every)):
        if every is None:
            continue
        if every < 1:
            raise ValueError(f"{name} must be positive, got {every}")
        runs = _cut(runs, column, every)
    return runs


def _cut(runs: NDArray[np.int64], column: int, every: int) -> NDArray[np.int64]:
    """Cut at the multiples of ``every`` in the ids that start in ``column``."""
    start, num_blocks = runs[:, column], runs[:, 2]
    first_piece = start // every
    num_parts = (start + num_blocks - 1) // every - first_piece + 1
    if (num_parts == 1).all():
        return runs
    run = np.repeat(np.arange(len(runs)), num_parts)  # part |-> its run
    part = np.arange(len(run)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)  # part |-> its place in there
    # in blocks from the run's start: that of the part's piece lies before it for a first part
    piece_start = (first_piece[run] + part) * every - start[run]
    part_start = np.maximum(piece_start, 0)
    part_end = np.minimum(piece_start + every, num_blocks[run])
    return np.stack((runs[run, 0] + part_start, runs[run, 1] + part_start, part_end - part_start), axis=1)

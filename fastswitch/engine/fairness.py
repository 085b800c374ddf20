"""How evenly clients were served: the service gap between two who both wait, and Jain's index.

Source: VTC (Sheng et al., OSDI 2024), whose bound is on the gap: over any time in which two clients are both
backlogged throughout, the difference of the service that they got in it. Jain's index: Jain, Chiu and Hawe, "A
Quantitative Measure of Fairness and Discrimination for Resource Allocation in Shared Computer Systems", DEC-TR-301,
1984. Ours: a record is compared iteration by iteration (`service_record`), and windows are cut by time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["backlogged_windows", "jain_index", "service_gaps"]


def jain_index(amounts: Sequence[float] | NDArray[np.float64]) -> float | None:
    """``(sum x)^2 / (n sum x^2)``: 1 if all have the same, 1/n if one has everything; None if nobody has anything.

    >>> jain_index([5, 5, 5, 5]), jain_index([7, 0, 0, 0]), jain_index([0, 0])
    (1.0, 0.25, None)
    """
    x = np.asarray(amounts, np.float64)
    squares = float((x**2).sum())
    return float(x.sum()) ** 2 / (len(x) * squares) if squares else None


def service_gaps(service: NDArray[np.float64], backlogged: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The largest gap that ends with each iteration; their maximum is the largest of all.

    Exact, over all pairs and all times in which both are backlogged throughout: a pair's gap is the largest sum of its
    differences that ends here, which is the one before plus this difference, or nothing. O(iterations x clients^2).

    Args:
        service: given in each iteration, per unit of weight, ``[num_iterations, num_clients]``.
        backlogged: in that iteration, same shape.

    Returns:
        ``[num_iterations]`` float64; 0 where no two clients are backlogged.
    """
    gaps, ahead = np.zeros(len(service)), np.zeros((service.shape[1],) * 2)  # of (i, j): what i got more than j
    for iteration in np.flatnonzero(backlogged.sum(axis=1) >= 2):
        if iteration and backlogged[iteration - 1].sum() < 2:
            ahead[:] = 0
        given, waits = service[iteration], backlogged[iteration]
        ahead += given[:, None] - given[None, :]
        np.maximum(ahead, 0, out=ahead)
        ahead *= waits[:, None] & waits[None, :]
        gaps[iteration] = ahead.max()
    return gaps


def backlogged_windows(
    times_s: NDArray[np.float64],
    service: NDArray[np.float64],
    backlogged: NDArray[np.bool_],
    window_s: float,
) -> Iterator[NDArray[np.float64]]:
    """What those got who were backlogged throughout a window, for each window in which two or more were.

    Windows follow each other from second 0 of ``times_s``; an iteration belongs to the one in which it ended.

    Args:
        times_s: when each iteration ended, ``[num_iterations]``.
        service: given in each iteration, per unit of weight, ``[num_iterations, num_clients]``.
        backlogged: in that iteration, same shape.
        window_s: length of a window.
    """
    windows = np.floor_divide(times_s, window_s)
    starts = np.flatnonzero(np.diff(windows, prepend=-1.0))
    for start, end in itertools.pairwise([*starts, len(windows)]):
        waiting = backlogged[start:end].all(axis=0)
        if waiting.sum() >= 2:
            yield service[start:end, waiting].sum(axis=0)

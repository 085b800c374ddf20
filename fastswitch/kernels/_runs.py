"""Runs as the copy functions take them: rows (src_start, dst_start, num_blocks), on the host and checked.

Ours:  the rule and its messages. Runs are cut into equal work on the host, so there is no form of them on a device.
Invariant: runs that leave this file are int64 ``[n, 3]``, of at least one block each.
"""

from __future__ import annotations

import numpy as np
import torch

from fastswitch.kernels._block_ids import BlockIds, host_array

__all__ = ["Runs", "are_runs", "check_destinations", "check_inside", "expand_runs", "read_runs"]

Runs = np.ndarray | torch.Tensor


def are_runs(ids: BlockIds | Runs) -> bool:
    """Whether an argument that takes ids or runs holds runs: whatever is an array, but of another shape than ids."""
    return isinstance(ids, torch.Tensor | np.ndarray) and ids.ndim != 1


def read_runs(runs: Runs, *, rule: str) -> np.ndarray:
    """The runs as int64 ``[n, 3]``, checked but for their places.

    Args:
        runs: rows of (src_start, dst_start, num_blocks), integers on the host.
        rule: what the caller's parameter must be, for the message about the shape.

    Raises:
        TypeError: if they are on a device, or no integers.
        ValueError: if they are not ``[n, 3]``, or a run is empty.
    """
    if isinstance(runs, torch.Tensor) and runs.device.type != "cpu":
        raise TypeError(f"runs must be on the host, where they are cut, got {runs.device}; use ids on a device")
    array = host_array(runs, "runs")
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{rule}, got shape {array.shape}")
    empty = np.flatnonzero(array[:, 2] < 1)
    if empty.size:
        raise ValueError(f"runs must have at least 1 block, got {array[empty[0], 2]} at run {empty[0]}")
    return array


def check_inside(starts: np.ndarray, lengths: np.ndarray, num_blocks: int, *, name: str) -> None:
    """Refuse a run that leaves the blocks of ``name``, the caller's parameter.

    Raises:
        IndexError: if a run does not lie in ``[0, num_blocks)``.
    """
    outside = np.flatnonzero((starts < 0) | (starts > num_blocks - lengths))
    if outside.size:
        run = int(outside[0])
        start, end = int(starts[run]), int(starts[run]) + int(lengths[run])
        raise IndexError(f"runs in {name} must lie in [0, {num_blocks}), got [{start}, {end}) at run {run}")


def check_destinations(runs: np.ndarray) -> None:
    """Refuse runs that write a block twice: which of the two copies wins would be chance.

    Raises:
        ValueError: if two destinations overlap.
    """
    order = np.argsort(runs[:, 1], kind="stable")
    starts = runs[order, 1]
    overlaps = np.flatnonzero(starts[1:] < (starts + runs[order, 2])[:-1])
    if overlaps.size:
        first = overlaps[0]
        between = f"runs {order[first]} and {order[first + 1]}"
        raise ValueError(f"runs must not repeat a destination, got block {starts[first + 1]} in {between}")


def expand_runs(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Source and destination ids of the single blocks, int64, in the order of the runs."""
    rows = np.asarray(runs, dtype=np.int64)
    lengths = rows[:, 2]
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(rows[:, 0], lengths) + inside, np.repeat(rows[:, 1], lengths) + inside

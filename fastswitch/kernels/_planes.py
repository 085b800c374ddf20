"""A pool as the transfers see it, checked: planes on both sides, and the runs to move between them.

A *plane* is a contiguous tensor ``[num_blocks, plane_numel]``. A block-major pool is one plane; a layer-major pool has
``2 * num_layers``: layer 0 K, layer 0 V, layer 1 K, ... A *run* is a row (src_start, dst_start, num_blocks): blocks
that are contiguous on both sides.

Ours:  a pool of one plane is the stack of the other order's planes, so that a copy between orders is a list of pairs.
Invariant: runs that pass `check_transfer` lie inside both pools, and write no block that another reads or writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.kernels._overlap import check_overlap
from fastswitch.kernels._pieces import PieceTable
from fastswitch.kernels._runs import check_destinations, check_inside, read_runs

__all__ = [
    "Pairs",
    "Planes",
    "TransferCount",
    "check_transfer",
    "merge_adjacent",
    "moved_bytes",
    "pair_planes",
    "split_runs",
]

Planes = tuple[torch.Tensor, ...]
# Tensors of one shape, dim 0 the block, any strides: what is copied from and to.
Pairs = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class TransferCount:
    """What a transfer did.

    Attributes:
        num_bytes: bytes moved between the pools; what is staged on the way is not counted twice.
        copies: contiguous pieces moved; of a kernel that moves them itself, its launches.
        calls: calls issued: copies, batches of copies, kernel launches.
    """

    num_bytes: int
    copies: int
    calls: int


def check_transfer(src_planes: Planes, dst_planes: Planes, runs: np.ndarray, *, transposes: bool = False) -> Pairs:
    """Check a transfer's arguments and pair the planes up.

    Args:
        src_planes: contiguous tensors ``[num_src_blocks, plane_numel]``.
        dst_planes: the same of the destination.
        runs: ``[n, 3]`` integers.
        transposes: whether the pools may differ in order.

    Raises:
        ValueError: if the planes do not match, a run has no block, a block would be written twice, or read and written.
        TypeError: if dtypes differ or the runs are no integers.
        IndexError: if a run leaves a pool.
    """
    for name, planes in (("src", src_planes), ("dst", dst_planes)):
        _check_planes(planes, name)
    pairs = pair_planes(src_planes, dst_planes, transposes=transposes)
    for index, (src, dst) in enumerate(pairs):
        _check_pair(src, dst, index)
    rows = read_runs(runs, rule="runs must have shape [n, 3]")
    num_blocks = _num_blocks(src_planes), _num_blocks(dst_planes)
    for column, name in enumerate(("src", "dst")):
        check_inside(rows[:, column], rows[:, 2], num_blocks[column], name=name)
    check_destinations(rows)
    if len(rows) and pairs and pairs[0][0].device == pairs[0][1].device:
        check_overlap(PieceTable.build(pairs), num_blocks, *rows.T, names=("src", "dst"))
    return pairs


def pair_planes(src_planes: Planes, dst_planes: Planes, *, transposes: bool) -> Pairs:
    """The tensors to copy between, pair by pair: planes, or the slices of a single plane that are the other's planes.

    Raises:
        ValueError: if the pools differ in order and ``transposes`` is not set, or cannot be paired at all.
    """
    src_count, dst_count = len(src_planes), len(dst_planes)
    if src_count == dst_count:
        return list(zip(src_planes, dst_planes, strict=True))
    if not transposes or 1 not in (src_count, dst_count):
        way_out = "use staged or zero_copy" if 1 in (src_count, dst_count) else "give both one order"
        raise ValueError(f"src and dst must have as many planes, got {src_count} and {dst_count}: {way_out}")
    if src_count == 1:
        return list(zip(_slices(src_planes[0], dst_count), dst_planes, strict=True))
    return list(zip(src_planes, _slices(dst_planes[0], src_count), strict=True))


def moved_bytes(pairs: Pairs, runs: np.ndarray) -> int:
    """Bytes of the runs' blocks in all pairs."""
    # By its shape: a view of each plane would cost more than the rest of a job's Python.
    return int(runs[:, 2].sum()) * sum(src.shape[1:].numel() * src.element_size() for src, _ in pairs)


def split_runs(runs: np.ndarray, most_blocks: int) -> np.ndarray:
    """Cut runs so that none has more than ``most_blocks`` blocks and, counted through, none crosses a multiple of it.

    The first piece of ``most_blocks`` blocks, the second and so on are then whole rows.

    Returns:
        ``[m, 3]`` int64, in the order of the runs.
    """
    ends = np.cumsum(runs[:, 2])
    cuts = np.unique(np.concatenate([np.arange(0, ends[-1] if len(ends) else 0, most_blocks), ends - runs[:, 2]]))
    row = np.searchsorted(ends, cuts, side="right")
    into = cuts - (ends - runs[:, 2])[row]
    lengths = np.diff(np.append(cuts, ends[-1:]))
    return np.stack([runs[row, 0] + into, runs[row, 1] + into, lengths], axis=1)


def merge_adjacent(
    starts: np.ndarray, lengths: np.ndarray, edge_every: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Join ranges, each of which begins where the one before it may end: ``(starts, lengths)`` of the maximal ones.

    None is joined to another that begins at a multiple of ``edge_every``.
    """
    apart = starts[1:] != starts[:-1] + lengths[:-1]
    if edge_every is not None:
        apart |= starts[1:] % edge_every == 0
    first = np.flatnonzero(np.append(True, apart))[: len(starts)]
    return starts[first], np.add.reduceat(lengths, first) if len(first) else lengths


def _slices(plane: torch.Tensor, num_planes: int) -> tuple[torch.Tensor, ...]:
    """A block-major plane as the planes of a layer-major pool, strided."""
    num_blocks, numel = plane.shape
    if numel % num_planes:
        raise ValueError(f"a plane of {numel} elements a block cannot be {num_planes} planes")
    return plane.view(num_blocks, num_planes, numel // num_planes).unbind(1)


def _num_blocks(planes: Planes) -> int:
    return min((plane.shape[0] for plane in planes), default=0)


def _check_planes(planes: Planes, name: str) -> None:
    for index, plane in enumerate(planes):
        if plane.dim() != 2:
            raise ValueError(f"{name} plane {index} must be [num_blocks, plane_numel], got {list(plane.shape)}")
        if not plane.is_contiguous():
            raise ValueError(f"{name} plane {index} must be contiguous, got strides {plane.stride()}")


def _check_pair(src: torch.Tensor, dst: torch.Tensor, index: int) -> None:
    if src.dtype != dst.dtype:
        raise TypeError(f"plane {index} must have one dtype on both sides, got {src.dtype} and {dst.dtype}")
    if src.shape[1:] != dst.shape[1:]:
        sizes = f"{src.shape[1]} and {dst.shape[1]} elements"
        raise ValueError(f"plane {index} must have blocks of one size on both sides, got {sizes}")

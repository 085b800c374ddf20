"""Whether a copy reads what it writes: memory that source and destination share, told from that of neighbours.

Copies run in any order, so a byte that is both read and written would hold chance. Two tensors may share memory and yet
copy well: one pool twice, ``pool`` and ``pool[1:]``, the keys and the values of one block-major pool. All of that shows
in the `PieceTable`: where the block strides are equal, two pieces meet in whole blocks at one distance, or never.

Ours:  all of it.
Invariant: a copy that passes `check_overlap` with ids on the host reads no byte that it writes.
"""

from __future__ import annotations

import numpy as np
import torch

from fastswitch.kernels._pieces import PieceTable

__all__ = ["check_overlap"]

Starts = np.ndarray | torch.Tensor | None


def check_overlap(
    table: PieceTable,
    num_blocks: tuple[int, int],
    src_starts: Starts,
    dst_starts: Starts,
    lengths: np.ndarray | int,
    *,
    names: tuple[str, str],
) -> None:
    """Refuse a copy that would read what it writes. Where no memory is shared, this costs 2 reductions of the table.

    Args:
        table: of the source and the destination.
        num_blocks: blocks of the two tensors.
        src_starts: ``[n]``, first blocks of the runs in the source; ``None`` stands for 0, 1, 2, ... Starts on a device
            are trusted.
        dst_starts: as ``src_starts``; the runs are disjoint in the destination.
        lengths: blocks of the runs; 1 for ids.
        names: the caller's parameters, for the messages.

    Raises:
        ValueError: if a block is both read and written, or the tensors share memory in another way than by blocks.
    """
    shifts = _shifts(table, *num_blocks, names=names)
    if not shifts or isinstance(src_starts, torch.Tensor) or isinstance(dst_starts, torch.Tensor):
        return
    read, written = _filled(src_starts, dst_starts), _filled(dst_starts, src_starts)
    for shift in shifts:
        _check_apart(read, written, lengths, shift, names)


def _shifts(table: PieceTable, num_src: int, num_dst: int, *, names: tuple[str, str]) -> list[int]:
    """Every s such that block d of the destination is, at least in a piece, block d + s of the source."""
    low, high = table.rows.min(axis=0).tolist(), table.rows.max(axis=0).tolist()
    src_end = high[0] + (num_src - 1) * high[1] + table.piece_bytes
    dst_end = high[2] + (num_dst - 1) * high[3] + table.piece_bytes
    if src_end <= low[2] or dst_end <= low[0]:
        return []
    src, src_stride, dst, dst_stride = table.rows.T
    src_ends = src + (num_src - 1) * src_stride + table.piece_bytes
    dst_ends = dst + (num_dst - 1) * dst_stride + table.piece_bytes
    i, j = np.nonzero((src[:, None] < dst_ends) & (dst < src_ends[:, None]))
    stride = np.maximum(src_stride[i], 1)
    shift, within = np.divmod(dst[j] - src[i], stride)
    # Beside each other in every block, as the keys and the values of a block-major pool.
    neighbours = (within >= table.piece_bytes) & (within <= stride - table.piece_bytes)
    known = (src_stride[i] == dst_stride[j]) & (stride >= table.piece_bytes) & ((within == 0) | neighbours)
    if not known.all():
        both = " and ".join(names)
        raise ValueError(f"{both} share memory, but not block by block; clone one of them")
    return [int(each) for each in np.unique(shift[within == 0])]


def _filled(starts: np.ndarray | None, others: np.ndarray | None) -> np.ndarray:
    return np.arange(0 if others is None else len(others)) if starts is None else starts


def _check_apart(
    src_starts: np.ndarray, dst_starts: np.ndarray, lengths: np.ndarray | int, shift: int, names: tuple[str, str]
) -> None:
    """Refuse runs of the source that meet one of the destination, ``shift`` blocks further up in the source."""
    written = np.sort(dst_starts) + shift
    # The destinations are disjoint, so their ends are ordered as their starts are.
    written_ends = np.sort(dst_starts + lengths) + shift
    behind = np.searchsorted(written_ends, src_starts, side="right")
    candidates = np.minimum(behind, len(written) - 1)
    meet = np.flatnonzero((behind < len(written)) & (written[candidates] < src_starts + lengths))
    if meet.size:
        block = max(int(src_starts[meet[0]]), int(written[candidates[meet[0]]]))
        which = f"block {block} of {names[0]}, block {block - shift} of {names[1]}"
        raise ValueError(f"{' and '.join(names)} share memory: no block may be both read and written, got {which}")

"""The memory of strided blocks as a table of contiguous pieces: what one kernel needs to copy between any two layouts.

A block is a slice of a tensor's dim 0 and may lie scattered: a layer-major pool, memory ``[layers, 2, blocks, ...]``
permuted to ``[blocks, layers, 2, ...]``, holds it in ``2 * layers`` pieces. Two tensors of one block shape but of
different strides have a largest piece that is contiguous in both; its addresses in block 0 and the block strides say
all.

Ours:  one table for every layout, and for a tuple of tensors too, in place of a kernel a layout.
Invariants:
1. The pieces of a block are disjoint, equally large, and cover it.
2. `PieceTable.align` divides every address, every block stride and the piece size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["PieceTable"]

MAX_ALIGN = 16  # bytes of the widest load or store of a lane


@dataclass(frozen=True, slots=True)
class PieceTable:
    """Where the pieces of a block lie in the source and in the destination.

    Attributes:
        rows: ``[num_pieces, 4]`` int64 in bytes: source address, source block stride, destination address, destination
            block stride. The addresses are those of block 0; the table does not keep the memory alive.
        piece_bytes: size of every piece.
        align: the largest power of two, at most 16 bytes, that divides whatever the table holds.
    """

    rows: np.ndarray
    piece_bytes: int
    align: int

    @property
    def back_to_back(self) -> bool:
        """Whether a run of blocks is contiguous in every piece, on both sides."""
        return bool((self.rows[:, 1::2] == self.piece_bytes).all())

    @classmethod
    def build(cls, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> PieceTable:
        """Describe copies from the blocks of each pair's first tensor to those of its second; reads no data.

        Args:
            pairs: at least one; all tensors have one dtype and, but for dim 0, one shape.
        """
        shape, element = pairs[0][0].shape, pairs[0][0].element_size()
        sides = [[(tensor.data_ptr(), tensor.stride()) for tensor in side] for side in zip(*pairs, strict=True)]
        first_dim = _first_contiguous_dim(shape, {strides for side in sides for _, strides in side})
        columns = [column for side in sides for column in _columns(side, shape, first_dim, element)]
        rows = np.stack(np.broadcast_arrays(*columns), axis=-1).reshape(-1, 4)
        piece_bytes = shape[first_dim:].numel() * element
        bits = int(np.bitwise_or.reduce(rows, axis=None)) | piece_bytes | MAX_ALIGN
        return cls(rows, piece_bytes, bits & -bits)


def _first_contiguous_dim(shape: torch.Size, all_strides: set[tuple[int, ...]]) -> int:
    """The first dim (1 at the least) from which on memory of each of these strides is contiguous."""
    piece = 1
    for dim in range(len(shape) - 1, 0, -1):
        if shape[dim] != 1 and any(strides[dim] != piece for strides in all_strides):
            return dim + 1
        piece *= shape[dim]
    return 1


def _columns(
    side: list[tuple[int, tuple[int, ...]]], shape: torch.Size, first_dim: int, element: int
) -> tuple[np.ndarray, np.ndarray]:
    """Addresses ``[num_tensors, num_pieces]`` and block strides ``[num_tensors, 1]`` of one side, in bytes.

    A tensor is given as its address and its strides in elements.
    """
    addresses = np.array([[address] for address, _ in side])
    strides = [strides for _, strides in side]
    if first_dim > 1:
        # A foreign engine's layers are many tensors, of one or two kinds of strides.
        offsets = {kind: _offsets(kind, shape, first_dim) * element for kind in set(strides)}
        addresses = addresses + np.array([offsets[kind] for kind in strides])
    return addresses, np.array([[kind[0] * element] for kind in strides])


def _offsets(strides: tuple[int, ...], shape: torch.Size, first_dim: int) -> np.ndarray:
    """Offsets of a block's pieces from its first one, in elements."""
    offsets = np.zeros(1, dtype=np.int64)
    for dim in range(1, first_dim):
        offsets = np.add.outer(offsets, np.arange(shape[dim]) * strides[dim]).ravel()
    return offsets

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
        first_dim = _first_contiguous_dim([tensor for pair in pairs for tensor in pair])
        rows = np.concatenate(
            [np.stack([*_columns(src, first_dim), *_columns(dst, first_dim)], 1) for src, dst in pairs]
        )
        sample = pairs[0][0]
        piece_bytes = sample.shape[first_dim:].numel() * sample.element_size()
        return cls(rows, piece_bytes, int(np.gcd.reduce([*rows.flat, piece_bytes, MAX_ALIGN])))


def _first_contiguous_dim(tensors: list[torch.Tensor]) -> int:
    """The first dim (1 at the least) from which on every one of the tensors is contiguous."""
    shape, piece = tensors[0].shape, 1
    for dim in range(len(shape) - 1, 0, -1):
        if shape[dim] != 1 and any(tensor.stride(dim) != piece for tensor in tensors):
            return dim + 1
        piece *= shape[dim]
    return 1


def _columns(tensor: torch.Tensor, first_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Addresses of block 0's pieces and the block stride beside each, in bytes."""
    offsets = np.zeros(1, dtype=np.int64)
    for dim in range(1, first_dim):
        offsets = np.add.outer(offsets, np.arange(tensor.shape[dim]) * tensor.stride(dim)).ravel()
    addresses = tensor.data_ptr() + offsets * tensor.element_size()
    return addresses, np.full_like(addresses, tensor.stride(0) * tensor.element_size())

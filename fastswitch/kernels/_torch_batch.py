"""What the torch path of attention reads of a plan: decodes as one padded batch, every other request a chunk.

Invariant: only blocks of a request's own table are named on its behalf, padding included, if it has any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.kernels._ragged_batch import RaggedBatch
from fastswitch.kernels._triton import upload

__all__ = ["DecodeBatch", "PrefillChunk", "TorchBatch"]


@dataclass(frozen=True, slots=True)
class DecodeBatch:
    """The requests with one query row, padded to the longest block table among them.

    Attributes:
        rows: ``[num_decodes]`` int64, the query row of each.
        positions: ``[num_decodes]`` int64, the position of that row, counted from the request's first key.
        last_keys: ``[num_decodes]`` int64, the last key that it may see.
        block_ids: ``[num_decodes, max_blocks]`` int64; a shorter table is filled up with its own first block.
        padding: ``[n]`` int64, the slots behind each request's keys, counted through ``num_decodes * max_blocks *
            block_size``.
    """

    rows: torch.Tensor
    positions: torch.Tensor
    last_keys: torch.Tensor
    block_ids: torch.Tensor
    padding: torch.Tensor


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """A request with several query rows.

    Attributes:
        first_row: its first query row.
        query_len: its query rows.
        position: of its first row, counted from the request's first key.
        num_keys: keys in its table.
        block_ids: ``[cdiv(num_keys, block_size)]`` int64.
    """

    first_row: int
    query_len: int
    position: int
    num_keys: int
    block_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class TorchBatch:
    """A batch as the torch path takes it; every row is in `decodes` or in one of `chunks`.

    Attributes:
        decodes: the requests with one query row; None if there are none.
        chunks: all others, in order.
        rows_see_themselves: as in `RaggedBatch`.
    """

    decodes: DecodeBatch | None
    chunks: tuple[PrefillChunk, ...]
    rows_see_themselves: bool

    @classmethod
    def build(cls, batch: RaggedBatch, device: torch.device) -> TorchBatch:
        """Index the batch; enqueues uploads on the current stream."""
        decodes = np.flatnonzero(batch.query_lens == 1)
        return cls(
            decodes=_decode_batch(batch, decodes, device) if len(decodes) else None,
            chunks=tuple(_chunk(batch, int(request), device) for request in np.flatnonzero(batch.query_lens > 1)),
            rows_see_themselves=batch.rows_see_themselves,
        )


def _decode_batch(batch: RaggedBatch, requests: np.ndarray, device: torch.device) -> DecodeBatch:
    starts, num_keys = batch.table_starts[requests][:, None], batch.num_keys[requests]
    num_blocks = batch.table_starts[requests + 1][:, None] - starts
    column = np.arange(num_blocks.max())
    block_index = np.minimum(starts + np.where(column < num_blocks, column, 0), max(0, len(batch.block_ids) - 1))
    past_end = np.arange(len(column) * batch.block_size) >= num_keys[:, None]
    positions = batch.positions[requests]
    return DecodeBatch(
        rows=upload(batch.first_rows[requests], device),
        positions=upload(positions, device),
        last_keys=upload(np.minimum(positions, num_keys - 1), device),
        block_ids=upload(batch.block_ids[block_index].astype(np.int64), device),
        padding=upload(np.flatnonzero(past_end), device),
    )


def _chunk(batch: RaggedBatch, request: int, device: torch.device) -> PrefillChunk:
    table = batch.block_ids[batch.table_starts[request] : batch.table_starts[request + 1]]
    return PrefillChunk(
        first_row=int(batch.first_rows[request]),
        query_len=int(batch.query_lens[request]),
        position=int(batch.positions[request]),
        num_keys=int(batch.num_keys[request]),
        block_ids=upload(table.astype(np.int64), device),
    )

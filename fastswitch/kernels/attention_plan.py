"""One step's ragged batch, turned once into the index tensors that every layer's attention uses.

Ours:  requests with one query row (decodes) become one padded batch, all others a chunk each; what a layer would
otherwise compute again, or ask a device for, is here as device tensors and Python ints.
Invariants:
1. Rows are the requests' query rows in the order given; every row is in `decodes` or in exactly one of `chunks`.
2. Only blocks of a request's own table are read on its behalf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["AttentionPlan", "DecodeBatch", "PrefillChunk"]


@dataclass(frozen=True, slots=True)
class DecodeBatch:
    """The requests with one query row, padded to the longest block table among them.

    Attributes:
        rows: ``[num_decodes]`` int64, the query row of each.
        positions: ``[num_decodes]`` int64, the position of that row.
        block_ids: ``[num_decodes, max_blocks]`` int64; a shorter table is filled up with its own first block.
        padding: ``[n]`` int64, the slots behind each request's end, counted through ``num_decodes * max_blocks *
            block_size``.
    """

    rows: torch.Tensor
    positions: torch.Tensor
    block_ids: torch.Tensor
    padding: torch.Tensor


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """A request with several query rows.

    Attributes:
        first_row: its first query row.
        query_len: its query rows, in tokens.
        seq_len: its KV with the new tokens.
        block_ids: ``[cdiv(seq_len, block_size)]`` int64.
    """

    first_row: int
    query_len: int
    seq_len: int
    block_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """A batch of `paged_attention`; immutable, and good for every layer of a step.

    Attributes:
        num_tokens: query rows of the batch.
        block_size: tokens in a block.
        slot_mapping: ``[num_tokens]`` int64, the slot where each row's own key and value belong; for `write_kv`.
        decodes: the requests with one query row; None if there are none.
        chunks: all others, in order.
    """

    num_tokens: int
    block_size: int
    slot_mapping: torch.Tensor
    decodes: DecodeBatch | None
    chunks: tuple[PrefillChunk, ...]

    @classmethod
    def build(
        cls,
        block_tables: Sequence[np.ndarray],
        query_lens: Sequence[int],
        seq_lens: Sequence[int],
        *,
        block_size: int,
        device: torch.device | str,
    ) -> AttentionPlan:
        """Plan one step; uploads its index tensors on the current stream.

        Args:
            block_tables: for each request its block ids in token order, ``[at least cdiv(seq_len, block_size)]`` int32;
                that the ids are in range is not checked.
            query_lens: for each request its new tokens in this step, at least 1.
            seq_lens: for each request its KV tokens with the new ones.
            block_size: tokens in a block.
            device: where queries and caches are.

        Raises:
            ValueError: if the lists differ in length, a request has no new token or more than it has in all, or its
                table is too short.
        """
        _check(block_tables, query_lens, seq_lens, block_size)
        first_rows = np.cumsum([0, *query_lens]).tolist()
        tables = [
            np.asarray(table[: -(-seq_len // block_size)], dtype=np.int64)
            for table, seq_len in zip(block_tables, seq_lens, strict=True)
        ]
        slots = [
            _slots(table, seq_len - query_len, seq_len, block_size)
            for table, query_len, seq_len in zip(tables, query_lens, seq_lens, strict=True)
        ]
        requests = list(zip(first_rows[:-1], tables, query_lens, seq_lens, strict=True))
        decodes = [(row, table, seq_len) for row, table, query_len, seq_len in requests if query_len == 1]
        return cls(
            num_tokens=first_rows[-1],
            block_size=block_size,
            slot_mapping=_upload(np.concatenate([*slots, np.empty(0, np.int64)]), device),
            decodes=_decode_batch(decodes, block_size, device) if decodes else None,
            chunks=tuple(
                PrefillChunk(row, query_len, seq_len, _upload(table, device))
                for row, table, query_len, seq_len in requests
                if query_len > 1
            ),
        )


def _decode_batch(
    decodes: list[tuple[int, np.ndarray, int]],  # (query row, block table, seq_len)
    block_size: int,
    device: torch.device | str,
) -> DecodeBatch:
    rows, tables, seq_lens = zip(*decodes, strict=True)
    block_ids = np.repeat([table[0] for table in tables], max(map(len, tables))).reshape(len(tables), -1)
    for padded, table in zip(block_ids, tables, strict=True):
        padded[: len(table)] = table
    ends = np.array(seq_lens, dtype=np.int64)
    past_end = np.arange(block_ids.shape[1] * block_size) >= ends[:, None]
    return DecodeBatch(
        rows=_upload(np.array(rows, dtype=np.int64), device),
        positions=_upload(ends - 1, device),
        block_ids=_upload(block_ids, device),
        padding=_upload(np.flatnonzero(past_end), device),
    )


def _slots(table: np.ndarray, start: int, stop: int, block_size: int) -> np.ndarray:
    positions = np.arange(start, stop)
    return table[positions // block_size] * block_size + positions % block_size


def _upload(array: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)


def _check(
    block_tables: Sequence[np.ndarray], query_lens: Sequence[int], seq_lens: Sequence[int], block_size: int
) -> None:
    if not len(block_tables) == len(query_lens) == len(seq_lens):
        lengths = f"{len(block_tables)} tables, {len(query_lens)} query_lens and {len(seq_lens)} seq_lens"
        raise ValueError(f"every request needs a table and two lengths, got {lengths}")
    for index, (table, query_len, seq_len) in enumerate(zip(block_tables, query_lens, seq_lens, strict=True)):
        if not 1 <= query_len <= seq_len:
            raise ValueError(f"query_len must be in [1, seq_len], got {query_len} of {seq_len} in request {index}")
        if len(table) * block_size < seq_len:
            raise ValueError(f"request {index} needs {-(-seq_len // block_size)} blocks, its table has {len(table)}")

"""A ragged batch as flat host arrays: what every request attends with, and over.

Ours:  rows and tables of all requests one after the other, so that a step's indexes are a few numpy calls whatever the
number of requests.
Invariants:
1. A request's rows stand at positions ``seq_len - query_len`` to ``seq_len - 1``; its table holds the keys of positions
   ``key_start`` to ``key_start + num_keys - 1``, all of them before ``seq_len``.
2. `block_ids` holds ``cdiv(num_keys, block_size)`` ids a request, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["RaggedBatch"]


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """The requests of a step, in order.

    Attributes:
        block_size: tokens in a block.
        query_lens: ``[num_requests]`` int64, new tokens of each; so are the next two.
        num_keys: keys that its table holds.
        positions: of its first row, counted from its first key; negative if the first key comes later.
        first_rows: ``[num_requests + 1]`` int64, where its rows begin; the last is the number of rows.
        table_starts: ``[num_requests + 1]`` int64, where its table begins in `block_ids`.
        block_ids: all tables, ``[num_blocks]`` int32.
    """

    block_size: int
    query_lens: np.ndarray
    num_keys: np.ndarray
    positions: np.ndarray
    first_rows: np.ndarray
    table_starts: np.ndarray
    block_ids: np.ndarray

    @classmethod
    def build(
        cls,
        block_tables: Sequence[np.ndarray],
        query_lens: Sequence[int],
        seq_lens: Sequence[int],
        key_starts: Sequence[int] | None,
        num_keys: Sequence[int] | None,
        block_size: int,
    ) -> RaggedBatch:
        """Check a batch and lay it out; arguments and errors are those of `AttentionPlan.build`."""
        key_starts = [0] * len(seq_lens) if key_starts is None else key_starts
        if num_keys is None:
            num_keys = [seq_len - start for seq_len, start in zip(seq_lens, key_starts, strict=False)]
        _check(block_tables, query_lens, seq_lens, key_starts, num_keys, block_size)
        tables = [table[: -(-keys // block_size)] for table, keys in zip(block_tables, num_keys, strict=True)]
        new = np.array(query_lens, dtype=np.int64)
        return cls(
            block_size=block_size,
            query_lens=new,
            num_keys=np.array(num_keys, dtype=np.int64),
            positions=np.array(seq_lens, dtype=np.int64) - new - np.array(key_starts, dtype=np.int64),
            first_rows=np.cumsum([0, *query_lens], dtype=np.int64),
            table_starts=np.cumsum([0, *map(len, tables)], dtype=np.int64),
            block_ids=np.concatenate([*tables, np.empty(0, np.int32)]).astype(np.int32, copy=False),
        )

    @property
    def rows_see_themselves(self) -> bool:
        """Whether every row's own key is in its request's table, so that none is without any key."""
        return bool(((self.positions >= 0) & (self.positions + self.query_lens == self.num_keys)).all())

    def slots(self) -> np.ndarray:
        """``[num_tokens]`` int64: where each row's own key belongs; -1 if that is not in its request's table."""
        rows = np.arange(self.first_rows[-1])
        key = rows + np.repeat(self.positions - self.first_rows[:-1], self.query_lens)
        held = (key >= 0) & (key < np.repeat(self.num_keys, self.query_lens))
        block_index = np.repeat(self.table_starts[:-1], self.query_lens) + key // self.block_size
        slots = np.full(len(rows), -1, dtype=np.int64)
        block_ids = self.block_ids[block_index[held]].astype(np.int64)
        slots[held] = block_ids * self.block_size + key[held] % self.block_size
        return slots


def _check(
    block_tables: Sequence[np.ndarray],
    query_lens: Sequence[int],
    seq_lens: Sequence[int],
    key_starts: Sequence[int],
    num_keys: Sequence[int],
    block_size: int,
) -> None:
    if not len(block_tables) == len(query_lens) == len(seq_lens):
        lengths = f"{len(block_tables)} tables, {len(query_lens)} query_lens and {len(seq_lens)} seq_lens"
        raise ValueError(f"every request needs a table and two lengths, got {lengths}")
    if not len(key_starts) == len(num_keys) == len(seq_lens):
        lengths = f"{len(key_starts)} key_starts and {len(num_keys)} num_keys for {len(seq_lens)} requests"
        raise ValueError(f"every request needs a key_start and num_keys if any has, got {lengths}")
    requests = zip(block_tables, query_lens, seq_lens, key_starts, num_keys, strict=True)
    for index, (table, query_len, seq_len, key_start, keys) in enumerate(requests):
        if not 1 <= query_len <= seq_len:
            raise ValueError(f"query_len must be in [1, seq_len], got {query_len} of {seq_len} in request {index}")
        if key_start < 0 or keys < 0 or key_start + keys > seq_len:
            held = f"[{key_start}, {key_start + keys})"
            raise ValueError(f"keys must lie in [0, seq_len), got {held} of {seq_len} in request {index}")
        if len(table) * block_size < keys:
            raise ValueError(f"request {index} needs {-(-keys // block_size)} blocks, its table has {len(table)}")

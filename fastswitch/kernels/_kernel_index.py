"""What the attention kernel reads of a plan, on the device: one upload a step.

Ours:  all indexes in one packed array, cut into views where it arrives; each begins at a multiple of 16 bytes, for
Triton compiles a kernel anew for every set of arguments that do or do not. The query rows of a request are cut into
*strips*: one row of a decode, `STRIP_ROWS` rows of a chunk; a program works on one strip or several in a row, so
that a plan suits every layer whatever its number of heads.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.kernels._ragged_batch import RaggedBatch
from fastswitch.kernels._triton import upload

__all__ = ["STRIP_ROWS", "KernelIndex", "Strips"]

ALIGNED_INTS = 4  # int32 numbers in 16 bytes

# The least rows that `tl.dot` takes: with one KV head a query head a strip fills a tile.
STRIP_ROWS = 16


@dataclass(frozen=True, slots=True)
class Strips:
    """The query rows of some requests, cut into strips.

    Attributes:
        index: ``[num_strips, 2]`` int32: the request, and the strip's first row within it.
        rows: of a strip, the last one of a request may have fewer.
        max_keys: most keys that a strip's request holds.
        sum_keys: keys that the requests of all strips hold, summed over the strips.
    """

    index: torch.Tensor
    rows: int
    max_keys: int
    sum_keys: int


@dataclass(frozen=True, slots=True)
class KernelIndex:
    """A batch as tensors on the device.

    Attributes:
        slot_mapping: ``[num_tokens]`` int64, of `RaggedBatch.slots`.
        requests: ``[num_requests, 5]`` int32: first row, query_len, position of the first row counted from the first
            key, keys, start of the table in `block_ids`.
        block_ids: all tables, ``[num_blocks]`` int32.
        decodes: strips of one row, those of the requests with one row.
        chunks: strips of `STRIP_ROWS` rows, those of all other requests.
    """

    slot_mapping: torch.Tensor
    requests: torch.Tensor
    block_ids: torch.Tensor
    decodes: Strips
    chunks: Strips

    @classmethod
    def build(cls, batch: RaggedBatch, device: torch.device) -> KernelIndex:
        """Index the batch; enqueues one upload on the current stream and does not wait."""
        columns = (batch.first_rows[:-1], batch.query_lens, batch.positions, batch.num_keys, batch.table_starts[:-1])
        requests = np.stack(columns, axis=1).astype(np.int32)
        decodes = np.flatnonzero(batch.query_lens == 1)
        chunks = np.flatnonzero(batch.query_lens > 1)
        decode_strips, chunk_strips = _cut(batch, decodes, 1), _cut(batch, chunks, STRIP_ROWS)
        parts = _upload_packed(batch.slots(), [requests, batch.block_ids, decode_strips, chunk_strips], device)
        slot_mapping, on_device, block_ids, decode_index, chunk_index = parts
        return cls(
            slot_mapping=slot_mapping,
            requests=on_device,
            block_ids=block_ids,
            decodes=_strips(batch, decode_strips, decode_index, 1),
            chunks=_strips(batch, chunk_strips, chunk_index, STRIP_ROWS),
        )


def _cut(batch: RaggedBatch, requests: np.ndarray, rows: int) -> np.ndarray:
    num_strips = -(-batch.query_lens[requests] // rows)
    strips = np.empty((num_strips.sum(), 2), dtype=np.int32)
    strips[:, 0] = np.repeat(requests, num_strips)
    strips[:, 1] = (np.arange(len(strips)) - np.repeat(np.cumsum(num_strips) - num_strips, num_strips)) * rows
    return strips


def _strips(batch: RaggedBatch, strips: np.ndarray, index: torch.Tensor, rows: int) -> Strips:
    keys = batch.num_keys[strips[:, 0]]
    return Strips(index, rows, max_keys=int(keys.max(initial=0)), sum_keys=int(keys.sum()))


def _upload_packed(longs: np.ndarray, ints: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """The int64 array and the int32 arrays on the device, by one copy."""
    rooms = [-(-size // ALIGNED_INTS) * ALIGNED_INTS for size in (2 * len(longs), *(array.size for array in ints))]
    starts = list(itertools.accumulate(rooms))[:-1]
    packed = np.zeros(max(2, sum(rooms) // 2), dtype=np.int64)
    packed[: len(longs)] = longs
    for array, start in zip(ints, starts, strict=True):
        packed.view(np.int32)[start : start + array.size] = array.ravel()
    on_device = upload(packed, device)
    as_ints = on_device.view(torch.int32)
    views = [as_ints[start : start + array.size].view(array.shape) for array, start in zip(ints, starts, strict=True)]
    return [on_device[: len(longs)], *views]

"""One step's ragged batch, turned once into the index tensors that every layer's attention uses.

Ours:  what a layer would otherwise compute again, or ask a device for, is here. And a table may hold only a range of
its request's keys: a shared prefix, or a segment of a conversation, is attended by a plan of its own
(`partial_attention`).
Invariants:
1. Rows are the requests' query rows in the order given.
2. Only blocks of a request's own table are read on its behalf.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.kernels._kernel_index import KernelIndex
from fastswitch.kernels._ragged_batch import RaggedBatch
from fastswitch.kernels._torch_batch import TorchBatch

__all__ = ["AttentionPlan"]


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """A batch of `paged_attention`; immutable, and good for every layer of a step.

    Attributes:
        batch: the requests, on the host.
        index: the same for the Triton kernel, on the device.
    """

    batch: RaggedBatch
    index: KernelIndex

    @classmethod
    def build(
        cls,
        block_tables: Sequence[np.ndarray],
        query_lens: Sequence[int],
        seq_lens: Sequence[int],
        *,
        block_size: int,
        device: torch.device | str,
        key_starts: Sequence[int] | None = None,
        num_keys: Sequence[int] | None = None,
    ) -> AttentionPlan:
        """Plan one step; uploads its indexes on the current stream, all in one copy, and does not wait.

        Args:
            block_tables: for each request its block ids in token order, ``[at least cdiv(num_keys, block_size)]``
                int32; that the ids are in range is not checked.
            query_lens: for each request its new tokens in this step, at least 1.
            seq_lens: for each request its KV tokens with the new ones.
            block_size: tokens in a block.
            device: where queries and caches are.
            key_starts: for each request the position of the first key in its table; None: 0.
            num_keys: for each request the keys that its table holds, 0 or more; None: all up to its seq_len.

        Raises:
            ValueError: if the lists differ in length, a request has no new token or more than it has in all, its keys
                lie outside its tokens, or its table is too short.
        """
        batch = RaggedBatch.build(block_tables, query_lens, seq_lens, key_starts, num_keys, block_size)
        return cls(batch, KernelIndex.build(batch, torch.device(device)))

    @functools.cached_property
    def num_tokens(self) -> int:
        """Query rows of the batch."""
        return int(self.batch.first_rows[-1])

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return self.batch.block_size

    @property
    def slot_mapping(self) -> torch.Tensor:
        """``[num_tokens]`` int64 on the device, for `write_kv`: where each row's own key and value belong.

        It is -1, and nothing is written, where that position is not in the request's table.
        """
        return self.index.slot_mapping

    @functools.cached_property
    def torch_batch(self) -> TorchBatch:
        """The batch for the torch path; built, and uploaded, when first asked for."""
        return TorchBatch.build(self.batch, self.slot_mapping.device)

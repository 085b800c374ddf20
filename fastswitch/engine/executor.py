"""What an iteration is made of, and who computes it.

Ours. An executor turns known tokens into KV and next tokens; it knows neither queues nor copies. ``ModelExecutor`` runs
a model, a simulator returns forced tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchEntry", "Executor"]


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One request's share of an iteration.

    Attributes:
        request_id: whose tokens these are.
        token_ids: the tokens to compute, at positions ``start`` and up.
        start: tokens whose KV is there already.
        block_table: int32 ``[n]``, device blocks for at least ``start + len(token_ids)`` tokens.
        samples: whether the last token is the newest known one, so that the next is wanted.
    """

    request_id: int
    token_ids: Sequence[int]
    start: int
    block_table: NDArray[np.int32]
    samples: bool


class Executor(Protocol):
    """Computes one batch at a time, on the caller's thread and current stream."""

    max_context: int  # tokens a request may have in all
    vocab_size: int  # token ids are in [0, vocab_size)

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        """Write the batch's KV into its blocks; the next token of each entry that samples, None for the others."""

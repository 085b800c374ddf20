"""What an iteration is made of, and who computes it.

Ours. An executor turns known tokens into KV and next tokens; it knows neither queues nor copies. ``ModelExecutor`` runs
a model, a simulator returns forced tokens: it asks for neither token ids nor block tables, so they are made on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchEntry", "Executor", "KnownTokens", "TokenSource"]


class TokenSource(Protocol):
    """What a request's entry is asked for when a model computes it."""

    def token_ids(self, start: int, end: int) -> Sequence[int]:
        """The tokens at positions ``[start, end)``."""

    @property
    def block_table(self) -> NDArray[np.int32]:
        """The request's device blocks now, int32 ``[n]``."""


@dataclass(frozen=True, slots=True)
class KnownTokens:
    """A ``TokenSource`` outside an engine: tokens and blocks that stay as they are.

    Attributes:
        tokens: of the request, from position ``first`` on.
        block_table: int32 ``[n]``.
        first: tokens in front of them.
    """

    tokens: Sequence[int]
    block_table: NDArray[np.int32]
    first: int = 0

    def token_ids(self, start: int, end: int) -> Sequence[int]:
        """The tokens at positions ``[start, end)``."""
        return self.tokens[start - self.first : end - self.first]


class BatchEntry(NamedTuple):
    """One request's share of an iteration: ``num_tokens`` tokens at positions ``start`` and up."""

    request_id: int
    """Whose tokens these are."""
    start: int
    """Tokens whose KV is there already."""
    num_tokens: int
    """How many are computed."""
    samples: bool
    """Whether the last token is the newest known one, so that the next is wanted."""
    source: TokenSource
    """Who knows the ids and the blocks."""

    @property
    def token_ids(self) -> Sequence[int]:
        """The tokens to compute, looked up when asked for."""
        return self.source.token_ids(self.start, self.start + self.num_tokens)

    @property
    def block_table(self) -> NDArray[np.int32]:
        """Int32 ``[n]``, device blocks for at least ``start + num_tokens`` tokens; asked for while the batch runs."""
        return self.source.block_table


class Executor(Protocol):
    """Computes one batch at a time, on the caller's thread and current stream."""

    max_context: int  # tokens a request may have in all
    vocab_size: int  # token ids are in [0, vocab_size)

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        """Write the batch's KV into its blocks; the next token of each entry that samples, None for the others."""

"""One tier of KV memory: an allocator, and for each segment how many of its tokens are right there.

Ours: KV is append-only, so for each segment and tier one number says everything. A *segment* is a piece of KV
that is stored, moved and dropped as one, and an owner in the allocator. Device and host are two instances of one class.

Invariants, asserted by ``Tier.check_invariants``:
1. The blocks that a segment holds cover its ``valid_len`` tokens.
2. Nobody owns blocks but the segments that have a copy here.
"""

from __future__ import annotations

from collections.abc import Hashable, KeysView
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import BlockAllocator
from fastswitch.memory.block_group import BlockGroup

__all__ = ["KVCopy", "Tier"]


@dataclass(frozen=True, slots=True)
class KVCopy:
    """One tier's copy of one segment: the first ``valid_len`` tokens' bytes in ``groups`` are correct."""

    groups: tuple[BlockGroup, ...]
    valid_len: int


class Tier:
    """Copies of segments on one tier.

    Args:
        allocator: who hands out the pool's blocks; nobody else may use it.
        block_size: tokens in a block.

    Raises:
        ValueError: if the allocator has owners already, or ``block_size`` is not positive.

    >>> from fastswitch.memory import PagedAllocator
    >>> tier = Tier(PagedAllocator(8), block_size=16)
    >>> tier.hold("chat", 40)
    >>> tier.mark_valid("chat", 33)
    >>> tier.num_blocks("chat"), tier.copy("chat").valid_len, tier.shortage("chat", 49)
    (3, 33, 1)
    >>> tier.cut("chat", 20)
    >>> tier.num_blocks("chat"), tier.valid_len("chat"), tier.num_free
    (2, 20, 6)
    """

    def __init__(self, allocator: BlockAllocator, block_size: int) -> None:
        if allocator.owners:
            raise ValueError(f"an allocator must be the manager's alone, this one has {len(allocator.owners)} owners")
        if index(block_size) < 1:
            raise ValueError(f"block_size must be positive, got {block_size}")
        self.allocator = allocator
        self.block_size = block_size
        self._valid_len: dict[Hashable, int] = {}  # segment_id |-> tokens; exactly the segments that hold blocks

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return self.allocator.num_free

    @property
    def segment_ids(self) -> KeysView[Hashable]:
        """The segments that hold blocks here, in the order in which they came."""
        return self._valid_len.keys()

    def valid_len(self, segment_id: Hashable) -> int:
        """Tokens of the segment whose bytes are right here; 0 without a copy."""
        return self._valid_len.get(segment_id, 0)

    def num_blocks(self, segment_id: Hashable) -> int:
        """Blocks that the segment holds here."""
        return self.allocator.num_owned(segment_id)

    def copy(self, segment_id: Hashable) -> KVCopy:
        """The segment's copy as a value; without a copy no groups and length 0."""
        if segment_id not in self._valid_len:
            return KVCopy((), 0)
        return KVCopy(self.allocator.groups(segment_id), self._valid_len[segment_id])

    def block_ids(self, segment_id: Hashable) -> NDArray[np.int32]:
        """The segment's blocks in token order, int32 ``[n]``."""
        if segment_id not in self._valid_len:
            return np.empty(0, np.int32)
        return self.allocator.block_ids(segment_id)

    def shortage(self, segment_id: Hashable, num_tokens: int) -> int:
        """Blocks that are missing for ``num_tokens`` tokens of the segment."""
        return max(0, -(-num_tokens // self.block_size) - self.num_blocks(segment_id))

    def hold(self, segment_id: Hashable, num_tokens: int) -> None:
        """Take the missing blocks for ``num_tokens`` tokens.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        missing = self.shortage(segment_id, num_tokens)
        if missing:
            self.allocator.allocate(segment_id, missing)
            self._valid_len.setdefault(segment_id, 0)

    def mark_valid(self, segment_id: Hashable, num_tokens: int) -> None:
        """The first ``num_tokens`` tokens are right now.

        Raises:
            ValueError: if that is less than before, or more than the room held.
        """
        if not self.extend_valid(segment_id, num_tokens):
            before, room = self.valid_len(segment_id), self.num_blocks(segment_id) * self.block_size
            raise ValueError(f"valid_len must stay in [{before}, {room}], got {num_tokens}: hold the room first")

    def extend_valid(self, segment_id: Hashable, num_tokens: int) -> bool:
        """As `mark_valid`, for every token that an engine makes: whether it was possible, else nothing changed."""
        before = self._valid_len.get(segment_id)
        if before is None:
            return num_tokens == 0
        if num_tokens < before:
            return False
        block_size = self.block_size
        # up to the end of the last block that is begun there is room by invariant 1: 15 of 16 times nobody is asked
        if num_tokens > before + -before % block_size and num_tokens > self.num_blocks(segment_id) * block_size:
            return False
        self._valid_len[segment_id] = num_tokens
        return True

    def cut(self, segment_id: Hashable, num_tokens: int) -> None:
        """Keep at most the first ``num_tokens`` tokens and the blocks that they fill."""
        if segment_id not in self._valid_len:
            return
        keep = -(-num_tokens // self.block_size)
        if keep == 0:
            self.allocator.free(segment_id)
            del self._valid_len[segment_id]
            return
        if keep < self.num_blocks(segment_id):
            self.allocator.truncate(segment_id, keep)
        self._valid_len[segment_id] = min(self._valid_len[segment_id], num_tokens)

    def trim(self, segment_id: Hashable) -> None:
        """Give back the blocks behind the last valid token."""
        self.cut(segment_id, self.valid_len(segment_id))

    def split(self, segment_id: Hashable, at_block: int, new_segment_id: Hashable) -> None:
        """Hand what lies behind the first ``at_block`` blocks, if anything does, to a segment without a copy."""
        if self.num_blocks(segment_id) <= at_block:
            return
        valid_len = self._valid_len[segment_id]
        self.allocator.split(segment_id, at_block, new_segment_id)
        self._valid_len[segment_id] = min(valid_len, at_block * self.block_size)
        self._valid_len[new_segment_id] = valid_len - self._valid_len[segment_id]

    def check_invariants(self) -> None:
        """Assert the module's invariants and the allocator's own."""
        self.allocator.check_invariants()
        owned = 0
        for segment_id, valid_len in self._valid_len.items():
            num_blocks = self.allocator.num_owned(segment_id)
            owned += num_blocks
            assert 0 <= valid_len <= num_blocks * self.block_size, (segment_id, valid_len, num_blocks)
        total = self.allocator.num_blocks
        assert owned + self.num_free == total, f"owned {owned} + free {self.num_free} != {total}"

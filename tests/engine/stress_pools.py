"""KV whose bytes tell whose they are: every token has a stamp of its own, every block that nobody may read is poisoned.

The poison says what became of a block last, so a wrong byte says more than that it is wrong.
"""

from __future__ import annotations

import enum
import itertools

import numpy as np

from tests.engine.doubles import STAMPS

__all__ = ["Poison", "PoisoningAllocator", "StampedPool"]


class Poison(enum.IntEnum):
    """What a block holds that has no KV; a stamp is never negative."""

    FREE_DEVICE_BLOCK = -1
    TAKEN_DEVICE_BLOCK = -2
    FREE_HOST_BLOCK = -3
    TAKEN_HOST_BLOCK = -4


class StampedPool:
    """One tier's memory, seen as stamps.

    Attributes:
        name: ``device`` or ``host``.
        freed_at: block_id |-> when it was given back last, on the clock of all events.
        written_by: block_id |-> the flight that copied there last; None if no copy did.
    """

    def __init__(self, pool, name, freed, taken):
        self.name = name
        self.freed, self.taken = freed, taken
        self.freed_at = np.full(pool.num_blocks, -1)
        self.written_by = [None] * pool.num_blocks
        self._slots = pool.blocks.flatten(1, 2)[..., 0, 0].numpy()  # [num_blocks, STAMPS, block_size]
        self._block_size = self._slots.shape[2]
        self.fill(np.arange(pool.num_blocks), freed)

    def fill(self, block_ids, poison):
        self._slots[block_ids] = int(poison)

    def write(self, block_ids, start, stamps):
        """The KV of tokens ``start`` and up."""
        tokens = np.arange(start, start + len(stamps))
        self._slots[block_ids[tokens // self._block_size], :, tokens % self._block_size] = stamps

    def read(self, block_ids, num_tokens):
        """What is in the first tokens of these blocks: ``[num_tokens, STAMPS]``."""
        return self._slots[block_ids].transpose(0, 2, 1).reshape(-1, STAMPS)[:num_tokens]

    def not_poisoned(self, block_ids):
        """Those of free blocks that somebody wrote to."""
        return block_ids[(self._slots[block_ids] != int(self.freed)).any(axis=(1, 2))]


class PoisoningAllocator:
    """A `BlockAllocator` that poisons each block that it takes back or hands out, as work of the compute stream.

    Args:
        allocator: does the allocating.
        pool: the memory of its blocks.
        compute: enqueues work on the compute stream.
        clock: counts events.

    Attributes:
        still_read: of block ids, which ones a copy under way may read although they are another owner's by now.
    """

    def __init__(self, allocator, pool, compute, clock):
        self.still_read = lambda block_ids: np.zeros(len(block_ids), bool)
        self.block_ids = allocator.block_ids
        self.num_owned = allocator.num_owned
        self._allocator = allocator
        self._pool = pool
        self._compute = compute
        self._clock = clock

    def __getattr__(self, name):
        return getattr(self._allocator, name)

    def allocate(self, owner, num_blocks):
        groups = self._allocator.allocate(owner, num_blocks)
        ids = itertools.chain.from_iterable(range(start, start + length) for start, length in groups)
        self._poison(np.array([*ids], np.int64), self._pool.taken)
        return groups

    def truncate(self, owner, num_blocks):
        gone = self._allocator.block_ids(owner)[num_blocks:]
        self._allocator.truncate(owner, num_blocks)
        self._take_back(gone)

    def free(self, owner):
        gone = self._allocator.block_ids(owner)
        self._allocator.free(owner)
        self._take_back(gone)

    def _take_back(self, block_ids):
        self._pool.freed_at[block_ids] = next(self._clock)
        self._poison(np.array(block_ids, np.int64), self._pool.freed)

    def _poison(self, block_ids, poison):
        spoilt = block_ids[~self.still_read(block_ids)]
        self._compute(lambda: self._pool.fill(spoilt, poison))

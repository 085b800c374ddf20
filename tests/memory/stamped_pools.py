"""A model of two KV pools whose "bytes" are stamps, and of who has to keep which of them."""

import itertools

import numpy as np

from fastswitch.memory import SwapDirection

POISON = -1
BLOCK_SIZE = 4


class PoisoningAllocator:
    """A `BlockAllocator` that spoils every block that it takes back or hands out, unless a copy still reads it.

    Attributes:
        slots: int64 ``[num_blocks, BLOCK_SIZE]``: the stamp of the token written there, or `POISON`.
        still_read: which of some blocks a copy reads although they were handed over.
    """

    def __init__(self, allocator):
        self._allocator = allocator
        self.still_read = lambda block_ids: np.zeros(len(block_ids), bool)
        self.slots = np.full((allocator.num_blocks, BLOCK_SIZE), POISON, np.int64)

    def __getattr__(self, name):
        return getattr(self._allocator, name)

    def allocate(self, owner, num_blocks):
        groups = self._allocator.allocate(owner, num_blocks)
        for group in groups:
            self.spoil(np.arange(group.start, group.end))
        return groups

    def truncate(self, owner, num_blocks):
        self.spoil(self.block_ids(owner)[num_blocks:])
        self._allocator.truncate(owner, num_blocks)

    def free(self, owner):
        self.spoil(self.block_ids(owner))
        self._allocator.free(owner)

    def spoil(self, block_ids):
        self.slots[block_ids[~self.still_read(block_ids)]] = POISON


class Copy:
    """A job under way, moved block by block, by whoever holds it."""

    def __init__(self, job, device, host):
        self.job = job
        tiers = (device, host) if job.direction is SwapDirection.SWAP_OUT else (host, device)
        self.source, self.destination = tiers
        self.todo = [(src + i, dst + i) for src, dst, num in job.runs.tolist() for i in range(num)]
        self.pairs = list(self.todo)
        self.segment_ids = {entry.segment_id for entry in job.ranges}

    def move(self, num_blocks):
        """Copy the next blocks, whole."""
        for src, dst in self.todo[:num_blocks]:
            self.destination.slots[dst] = self.source.slots[src]
        del self.todo[:num_blocks]

    def check_blocks_are_its_own(self):
        """Nobody else was given a block that this job reads or writes."""
        for tier, side in ((self.source, 0), (self.destination, 1)):
            held = self.segment_ids & set(tier.owners)
            own = {block_id for name in held for block_id in tier.block_ids(name).tolist()}
            others = np.array(sorted({pair[side] for pair in self.pairs} - own), np.int32)
            assert tier.still_read(others).all()


class Tokens:
    """What the KV of one request must be.

    Attributes:
        stamps: token index |-> stamp; survives the loss of the KV, since recomputing gives the same bytes.
        kept: tokens whose KV must be right on one tier at least.
        failed: its copy to the host has failed, and nobody has decided yet what becomes of it.
    """

    _fresh = itertools.count()

    def __init__(self, stamps=(), *, resident=True):
        self.stamps = list(stamps)
        self.kept = len(self.stamps)
        self.resident = resident
        self.idle = False
        self.copy = None
        self.failed = False

    def write(self, device, block_ids, start, end):
        """The KV of tokens ``[start, end)`` is written to the device's slots."""
        self.stamps.extend(next(self._fresh) for _ in range(end - len(self.stamps)))
        for i in range(start, end):
            device.slots[block_ids[i // BLOCK_SIZE], i % BLOCK_SIZE] = self.stamps[i]
        self.kept = end

    def cut(self, num_tokens):
        """Other tokens will follow the first ``num_tokens``."""
        del self.stamps[num_tokens:]
        self.kept = min(self.kept, num_tokens)


def stamps_of(allocator, kv_copy):
    """The stamps that a copy holds, in token order."""
    ids = [block_id for group in kv_copy.groups for block_id in group.block_ids]
    return allocator.slots[ids].ravel()[: kv_copy.valid_len].tolist()


def blocks_for(num_tokens):
    return -(-num_tokens // BLOCK_SIZE)


def leave_nothing_clean(kv):
    """Somebody needs the room of everyone who is clean, and ends at once."""
    kv.add("hungry")
    if kv.num_free + kv.num_clean:
        kv.grow("hungry", (kv.num_free + kv.num_clean) * BLOCK_SIZE)
    kv.release("hungry")

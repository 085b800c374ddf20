"""Run-time checks: freed blocks are poisoned, and what must always hold is asserted.

Ours (DESIGN §10). Greedy tokens alone are a weak witness of a misplaced block; NaN in every block that nobody owns, and in every block
that was handed out and not yet written, is a strong one.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.engine import Engine
from fastswitch.memory import BlockAllocator, BlockGroup
from fastswitch.memory.pool import KVPool

__all__ = ["PoisoningAllocator", "check_engine"]


class PoisoningAllocator:
    """An allocator that writes NaN into each block that it hands out or takes back; satisfies ``BlockAllocator``.

    Args:
        allocator: does the allocating.
        pool: the memory of its blocks.
    """

    def __init__(self, allocator: BlockAllocator, pool: KVPool) -> None:
        self._allocator = allocator
        self._pool = pool
        pool.poison(np.arange(pool.num_blocks))

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._allocator.num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that ``allocate`` can still hand out."""
        return self._allocator.num_free

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds."""
        return self._allocator.num_owned(owner)

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append blocks to ``owner``, poisoned."""
        groups = self._allocator.allocate(owner, num_blocks)
        for group in groups:
            self._pool.poison(np.arange(group.start, group.end))
        return groups

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """Maximal contiguous groups, in token order."""
        return self._allocator.groups(owner)

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The block table."""
        return self._allocator.block_ids(owner)

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first blocks, poison the rest."""
        gone = self._allocator.block_ids(owner)[num_blocks:]
        self._allocator.truncate(owner, num_blocks)
        self._pool.poison(gone)

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Blocks from ``at_block`` on change hands, bytes and all."""
        self._allocator.split(owner, at_block, new_owner)

    def free(self, owner: Hashable) -> None:
        """Give everything back, poisoned."""
        gone = self._allocator.block_ids(owner)
        self._allocator.free(owner)
        self._pool.poison(gone)

    def check_invariants(self) -> None:
        """Assert the allocator's invariants."""
        self._allocator.check_invariants()


def check_engine(engine: Engine) -> None:
    """Assert DESIGN §10.1 and §10.4: each pool is partitioned, and no copy claims more than was committed or landed."""
    engine.kv.check_invariants()

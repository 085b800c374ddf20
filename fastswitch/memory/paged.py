"""Paged allocator: a free list of single blocks, the baseline.

Paper: the baseline of FastSwitch (arXiv 2411.18424) is vLLM, whose allocator is a last-in first-out list of blocks.
Ours:  blocks are given back in reverse, so a freed table is handed out again in ascending order. This is the kindest
       order for the baseline: its runs are as long as a free list allows.
Invariants, asserted by `PagedAllocator.check_invariants`:
1. The free list and the owners' tables partition ``range(num_blocks)``.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import index

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import (
    BlockGroup,
    OwnerTable,
    check_keep,
    check_partition,
    check_pool,
    check_request,
    check_split,
)
from fastswitch.memory.owner_thread import WRONG_THREAD, OwnerThread

__all__ = ["PagedAllocator"]


class PagedAllocator:
    """Hand out single blocks from a last-in first-out list. Satisfies `BlockAllocator`.

    >>> allocator = PagedAllocator(8)
    >>> allocator.allocate("a", 2), allocator.allocate("b", 1), allocator.allocate("a", 1)
    ((BlockGroup(start=0, num_blocks=2),), (BlockGroup(start=2, num_blocks=1),), (BlockGroup(start=3, num_blocks=1),))
    >>> allocator.block_ids("a")
    array([0, 1, 3], dtype=int32)

    Args:
        num_blocks: blocks in the pool.

    Raises:
        ValueError: if ``num_blocks`` is not positive.
    """

    def __init__(self, num_blocks: int) -> None:
        check_pool(num_blocks)
        self._num_blocks = num_blocks
        self._free_ids = list(range(num_blocks - 1, -1, -1))  # the next block to hand out is the last
        self._tables = OwnerTable[list[int]]()  # owner |-> block ids
        self._thread = OwnerThread()

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can still hand out."""
        return len(self._free_ids)

    @property
    def num_reserved(self) -> int:
        """0: no block is kept for anybody."""
        return 0

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """The owners that exist, oldest first."""
        return tuple(self._tables)

    def free_groups(self) -> tuple[BlockGroup, ...]:
        """The free blocks as maximal contiguous groups by start, in O(num_free log num_free)."""
        return _groups(sorted(self._free_ids))

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds, in O(1); 0 for an unknown owner."""
        return len(self._tables.get(owner, ()))

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append ``num_blocks`` blocks to ``owner``, in O(num_blocks). All or nothing.

        Returns:
            What was appended, as maximal contiguous groups in token order.

        Raises:
            ValueError: if ``num_blocks`` is not positive.
            OutOfBlocksError: if ``num_blocks > num_free``; nothing changed.
        """
        assert self._thread.is_current(), WRONG_THREAD
        num_blocks = index(num_blocks)
        check_request(num_blocks, len(self._free_ids), self._num_blocks)
        taken = self._free_ids[: -num_blocks - 1 : -1]
        del self._free_ids[-num_blocks:]
        self._tables.setdefault(owner, []).extend(taken)
        return _groups(taken)

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order, in O(num_owned).

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return _groups(self._tables[owner])

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return np.array(self._tables[owner], np.int32)

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` blocks and free the others. After 0 the owner still exists.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``num_blocks`` is negative or more than the owner holds.
        """
        assert self._thread.is_current(), WRONG_THREAD
        table, num_blocks = self._tables[owner], index(num_blocks)
        check_keep(owner, num_blocks, len(table))
        self._free_ids.extend(reversed(table[num_blocks:]))
        del table[num_blocks:]

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Hand the blocks from index ``at_block`` on to ``new_owner``. Either side may end up with none.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``new_owner`` exists already, or ``at_block`` is outside ``[0, num_owned]``.
        """
        assert self._thread.is_current(), WRONG_THREAD
        table, at_block = self._tables[owner], index(at_block)
        check_split(owner, at_block, len(table), new_owner, exists=new_owner in self._tables)
        self._tables[new_owner] = table[at_block:]
        del table[at_block:]

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        assert self._thread.is_current(), WRONG_THREAD
        self._free_ids.extend(reversed(self._tables[owner]))
        del self._tables[owner]

    def hand_over(self) -> None:
        """Let another thread have the allocator: the next that changes it."""
        self._thread.hand_over()

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks log num_blocks).

        Raises:
            AssertionError: if the allocator is inconsistent, which is a bug of ours.
        """
        block_ids = self._free_ids + [block_id for table in self._tables.values() for block_id in table]
        check_partition([(block_id, 1) for block_id in block_ids], self._num_blocks)


def _groups(block_ids: list[int]) -> tuple[BlockGroup, ...]:
    """The ids as maximal contiguous groups, in their order."""
    starts = [i for i, block_id in enumerate(block_ids) if not i or block_id != block_ids[i - 1] + 1]
    ends = [*starts[1:], len(block_ids)]
    return tuple(BlockGroup(block_ids[start], end - start) for start, end in zip(starts, ends, strict=False))

"""Binary buddy allocator: the classic, as a baseline and to learn from.

Blocks are kept free in *buddy blocks* of 2**order blocks, each aligned to its own size. Halving one of order k gives
two *buddies* of order k - 1, whose starts differ in one bit: ``buddy = start ^ size``. A freed one merges with its
buddy if that is free as well, and the double goes on to merge with its own. It merges with no other neighbour, however
adjacent: that is what makes a buddy simple, and what leaves more and smaller pieces than `block_group` does.

A request of n blocks takes the front of the smallest buddy block that holds it and gives the unused tail back, cut into
smaller buddy blocks (Linux calls this ``alloc_pages_exact``), so nothing is rounded up. If none is large enough it
takes the largest whole and goes on with the rest. So nothing fails before the pool is full. Growth is nothing special:
there is no reserve, and a group grows in place by chance alone.

Paper: none; Knowlton, A fast storage allocator, CACM 1965.
Ours:  any pool size: the pool is cut into aligned buddy blocks at the start. Last freed, first handed out.
Invariants, asserted by `BuddyAllocator.check_invariants`, with those of `holding`:
1. Owned groups and free buddy blocks partition ``range(num_blocks)``.
2. A free buddy block is aligned to its size, and its buddy is not free, or they would have been merged.
3. The mask has the bits of the orders of which a buddy block is free.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
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
    merged,
)
from fastswitch.memory.holding import Holding
from fastswitch.memory.owner_thread import WRONG_THREAD, OwnerThread

__all__ = ["BuddyAllocator"]


class BuddyAllocator:
    """Hand out buddy blocks, without rounding up. Satisfies `BlockAllocator`.

    >>> allocator = BuddyAllocator(16)
    >>> allocator.allocate("a", 5), allocator.allocate("b", 3)
    ((BlockGroup(start=0, num_blocks=5),), (BlockGroup(start=8, num_blocks=3),))
    >>> allocator.free_groups()  # blocks 5; 6 and 7; 11; 12 to 15
    (BlockGroup(start=5, num_blocks=3), BlockGroup(start=11, num_blocks=5))
    >>> allocator.allocate("c", 6)  # adjacent, but only 12 to 15 are one buddy block
    (BlockGroup(start=12, num_blocks=4), BlockGroup(start=6, num_blocks=2))

    Args:
        num_blocks: blocks in the pool.

    Raises:
        ValueError: if ``num_blocks`` is not positive.
    """

    def __init__(self, num_blocks: int) -> None:
        check_pool(num_blocks)
        self._num_blocks = num_blocks
        self._num_free = num_blocks
        self._holdings = OwnerTable[Holding]()
        # Order |-> starts of the free buddy blocks of 2**order blocks, as an ordered set.
        self._free_starts: list[dict[int, None]] = [{} for _ in range(num_blocks.bit_length())]
        self._mask = 0  # bit `order` is set if a buddy block of this order is free
        self._thread = OwnerThread()
        self._add(0, num_blocks)

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can still hand out."""
        return self._num_free

    @property
    def num_reserved(self) -> int:
        """0: no block is kept for anybody."""
        return 0

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """The owners that exist, oldest first."""
        return tuple(self._holdings)

    def free_groups(self) -> tuple[BlockGroup, ...]:
        """The free blocks as maximal contiguous groups by start: buddies or not, neighbours are one group."""
        return merged(self._free_runs())

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds, in O(1); 0 for an unknown owner."""
        holding = self._holdings.get(owner)
        return holding.num_blocks if holding else 0

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append ``num_blocks`` blocks to ``owner``, in O(groups given x log pool). All or nothing."""
        assert self._thread.is_current(), WRONG_THREAD
        num_blocks = index(num_blocks)
        check_request(num_blocks, self._num_free, self._num_blocks)
        holding = self._holdings.get(owner)
        if holding is None:
            holding = self._holdings[owner] = Holding()
        self._num_free -= num_blocks
        held = holding.num_blocks
        while num_blocks:
            start, taken = self._take(num_blocks)
            holding.append(start, taken)
            num_blocks -= taken
        return tuple(map(BlockGroup._make, holding.since(held)))

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order, in O(number of groups)."""
        return tuple(map(BlockGroup._make, self._holdings[owner]))

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order."""
        return self._holdings[owner].block_ids()

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` blocks and free the others. After 0 the owner still exists."""
        assert self._thread.is_current(), WRONG_THREAD
        holding, num_blocks = self._holdings[owner], index(num_blocks)
        check_keep(owner, num_blocks, holding.num_blocks)
        self._release(holding.cut(num_blocks))

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Hand the blocks from index ``at_block`` on to ``new_owner``. Either side may end up with none."""
        assert self._thread.is_current(), WRONG_THREAD
        holding, at_block = self._holdings[owner], index(at_block)
        check_split(owner, at_block, holding.num_blocks, new_owner, exists=new_owner in self._holdings)
        self._holdings[new_owner] = holding.cut(at_block)

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it, in O(number of groups x log pool)."""
        assert self._thread.is_current(), WRONG_THREAD
        self._release(self._holdings[owner])
        del self._holdings[owner]

    def hand_over(self) -> None:
        """Let another thread have the allocator: the next that changes it."""
        self._thread.hand_over()

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks); an `AssertionError` is a bug of ours."""
        holdings = self._holdings.values()
        for holding in holdings:
            holding.check_invariants()
        free_runs = list(self._free_runs())
        check_partition([*free_runs, *(run for holding in holdings for run in holding)], self._num_blocks)
        assert self._num_free == sum(size for _, size in free_runs), "num_free disagrees"
        for order, starts in enumerate(self._free_starts):
            assert not any(start % (1 << order) for start in starts), f"a buddy block of order {order} is not aligned"
            assert not any(start ^ (1 << order) in starts for start in starts), f"buddies of order {order} are apart"
            assert bool(starts) == bool(self._mask >> order & 1), f"mask of order {order} disagrees"

    def _take(self, most: int) -> tuple[int, int]:
        """Take the front of the smallest buddy block that holds ``most`` blocks, else the largest one whole.

        Returns:
            (start, size) of what was taken.
        """
        wanted = (most - 1).bit_length()  # the order whose size is `most`, rounded up
        large_enough = self._mask >> wanted << wanted
        lowest_bit = large_enough & -large_enough
        order = (lowest_bit or self._mask).bit_length() - 1
        # The last one in: to look for the first would cost more with every one that has left.
        start, _ = self._free_starts[order].popitem()
        if not self._free_starts[order]:
            self._mask ^= 1 << order
        taken = min(most, 1 << order)
        self._add(start + taken, (1 << order) - taken)
        return start, taken

    def _add(self, start: int, num_blocks: int) -> None:
        """Free any blocks, buddy block by buddy block."""
        while num_blocks:
            # The largest size that `start` is aligned to and that is not longer than the rest: of both, the lower bit.
            bits = start | (1 << (num_blocks.bit_length() - 1))
            size = bits & -bits
            self._merge(start, size.bit_length() - 1)
            start += size
            num_blocks -= size

    def _merge(self, start: int, order: int) -> None:
        """Free one buddy block: merge it with its buddy, and that with its own, as long as the buddy is free."""
        while (buddy := start ^ (1 << order)) in self._free_starts[order]:
            self._remove(buddy, order)
            start = min(start, buddy)
            order += 1
        self._free_starts[order][start] = None
        self._mask |= 1 << order

    def _remove(self, start: int, order: int) -> None:
        starts = self._free_starts[order]
        del starts[start]
        if not starts:
            self._mask ^= 1 << order

    def _release(self, holding: Holding) -> None:
        """Free all blocks of a holding."""
        self._num_free += holding.num_blocks
        for start, size in holding:
            self._add(start, size)

    def _free_runs(self) -> Iterator[tuple[int, int]]:
        """The free buddy blocks as (start, num_blocks), by order."""
        return ((start, 1 << order) for order, starts in enumerate(self._free_starts) for start in starts)

"""Block groups: an allocator that gives a request few contiguous groups instead of many blocks.

A prompt takes one free run, exactly its size; while half of the pool is free, from the middle of the longest run, with
room to grow on either side. An owner grows in place, into the free blocks behind its last group. Where there are none
it starts a *growth group*, whose unused rest is its *reserved tail*. A reserve is a preference, never a claim: it
counts as free, and when no free run is long enough, half of the longest reserve is taken back. So nothing fails before
the pool is full, and no block is wasted.

Paper: FastSwitch (arXiv 2411.18424), Dynamic Block Group Manager: an active group of about 60 blocks a request, whose
       unused rest is split off when the pool runs short.
Ours:  no reserve behind a prompt (it shreds a full pool); taking back halves; the placement in the middle.
Invariants, asserted by `BlockGroupAllocator.check_invariants`, with those of `free_runs` and `holding`:
1. Owned groups, reserved tails and free runs partition ``range(num_blocks)``.
2. ``num_free`` counts free runs and reserved tails.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import attrgetter, index
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import OwnerTable, check_keep, check_new, check_partition, check_pool, check_request
from fastswitch.memory.free_runs import FreeRuns
from fastswitch.memory.holding import Holding

__all__ = ["BlockGroup", "BlockGroupAllocator"]


class BlockGroup(NamedTuple):
    """Contiguous blocks, allocated and copied as one."""

    start: int
    """The first block's id."""
    num_blocks: int
    """How many blocks, at least 1."""

    @property
    def end(self) -> int:
        """The id after the last block's."""
        return self.start + self.num_blocks


class BlockGroupAllocator:
    """Hand out contiguous groups of blocks. Satisfies `BlockAllocator`.

    >>> allocator = BlockGroupAllocator(64, growth_blocks=8)
    >>> allocator.allocate("a", 10), allocator.allocate("b", 10)
    ((BlockGroup(start=27, num_blocks=10),), (BlockGroup(start=0, num_blocks=10),))
    >>> allocator.allocate("a", 1), allocator.groups("a"), allocator.num_free
    ((BlockGroup(start=37, num_blocks=1),), (BlockGroup(start=27, num_blocks=11),), 43)

    Args:
        num_blocks: blocks in the pool.
        growth_blocks: blocks to keep free where an owner grows; 0 for none.

    Raises:
        ValueError: if ``num_blocks`` is not positive, or ``growth_blocks`` is negative.
    """

    def __init__(self, num_blocks: int, *, growth_blocks: int = 60) -> None:
        check_pool(num_blocks)
        if growth_blocks < 0:
            raise ValueError(f"growth_blocks must not be negative, got {growth_blocks}")
        self._num_blocks = num_blocks
        self._num_free = num_blocks
        self._growth_blocks = growth_blocks
        self._holdings = OwnerTable[Holding]()
        self._reserving: dict[Holding, None] = {}  # the holdings with a reserved tail, as an ordered set
        self._runs = FreeRuns()
        self._runs.add(0, num_blocks)

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can still hand out, reserved tails included."""
        return self._num_free

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds, in O(1); 0 for an unknown owner."""
        holding = self._holdings.get(owner)
        return holding.num_blocks if holding else 0

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append ``num_blocks`` blocks to ``owner``, in place if possible. All or nothing.

        O(1) in place or if one run fits; else O(groups given + owners that hold a reserve).

        Returns:
            What was appended, in token order. A group that continues the owner's last group is given as its new part.

        Raises:
            ValueError: if ``num_blocks`` is not positive.
            OutOfBlocksError: if ``num_blocks > num_free``; nothing changed.
        """
        num_blocks = index(num_blocks)
        check_request(num_blocks, self._num_free, self._num_blocks)
        holding = self._holdings.get(owner)
        if holding is None:
            holding = self._holdings[owner] = Holding()
        self._num_free -= num_blocks
        if not holding.num_blocks:
            return self._admit(holding, num_blocks)
        if num_blocks <= holding.reserve:
            self._set_reserve(holding, holding.reserve - num_blocks)
            return (BlockGroup(holding.extend(num_blocks), num_blocks),)
        return self._grow(holding, num_blocks)

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order, in O(number of groups).

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return tuple(map(BlockGroup._make, self._holdings[owner]))

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return self._holdings[owner].block_ids()

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` blocks and free the others. After 0 the owner still exists.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``num_blocks`` is negative or more than the owner holds.
        """
        self._release(self._cut(owner, index(num_blocks)))

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Hand the blocks from index ``at_block`` on to ``new_owner``. Either side may end up with none.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``new_owner`` exists already, or ``at_block`` is outside ``[0, num_owned]``.
        """
        check_new(new_owner, exists=new_owner in self._holdings)
        self._holdings[new_owner] = self._cut(owner, index(at_block))

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it, in O(number of groups).

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        self._release(self._holdings[owner])
        del self._holdings[owner]

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks); an `AssertionError` is a bug of ours."""
        self._runs.check_invariants()
        holdings = self._holdings.values()
        for holding in holdings:
            holding.check_invariants()
        owned = [run for holding in holdings for run in holding]
        reserved = [(holding.end, holding.reserve) for holding in holdings if holding.reserve]
        check_partition([*owned, *reserved, *self._runs], self._num_blocks)
        assert self._num_free == self._runs.num_blocks + sum(size for _, size in reserved), "num_free disagrees"
        assert self._reserving.keys() == {holding for holding in holdings if holding.reserve}, "reserves disagree"

    def _admit(self, holding: Holding, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Give a holding its first blocks, without a reserve."""
        if self._growth_blocks and 2 * self._num_free >= self._num_blocks:
            start, size = self._runs.fit(self._num_blocks)
            gap = (size - num_blocks) // 2
            # Either gap must be worth having: for an owner that grows, or for another prompt like this one.
            if gap >= max(self._growth_blocks, num_blocks):
                self._runs.take(start, num_blocks, skip=gap)
                holding.append(start + gap, num_blocks)
                return (BlockGroup(start + gap, num_blocks),)
        return self._place(holding, num_blocks, 0)

    def _grow(self, holding: Holding, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append to a holding: what fits behind its last group, the rest in a growth group."""
        here, end = holding.reserve, holding.end
        if end + here in self._runs:
            here += self._runs.take(end + here, num_blocks - here + self._growth_blocks)
        used = min(here, num_blocks)
        self._set_reserve(holding, here - used)
        if not used:
            return self._place(holding, num_blocks, self._growth_blocks)
        holding.extend(used)
        return (BlockGroup(end, used), *self._place(holding, num_blocks - used, self._growth_blocks))

    def _place(self, holding: Holding, num_blocks: int, spare: int) -> tuple[BlockGroup, ...]:
        """Append new groups, few and large, and reserve up to ``spare`` blocks behind the last one."""
        appended = []
        while num_blocks:
            start = self._find(num_blocks + spare)
            size = self._runs.take(start, num_blocks + spare)
            used = min(size, num_blocks)
            holding.append(start, used)
            self._set_reserve(holding, size - used)
            appended.append(BlockGroup(start, used))
            num_blocks -= used
        return tuple(appended)

    def _find(self, num_blocks: int) -> int:
        """Start of the run to take ``num_blocks`` blocks from, or as many as there are in one place."""
        start, size = self._runs.fit(num_blocks)
        if size < num_blocks and self._reserving:
            victim = max(self._reserving, key=attrgetter("reserve"))
            # Half, because the owner will go on growing; the far half, because it grows from the near end.
            half = (victim.reserve + 1) // 2
            if half > size:
                self._free_reserve(victim, half)
                start, _ = self._runs.fit(num_blocks)
        return start

    def _set_reserve(self, holding: Holding, num_blocks: int) -> None:
        holding.reserve = num_blocks
        if num_blocks:
            self._reserving[holding] = None
        else:
            self._reserving.pop(holding, None)

    def _free_reserve(self, holding: Holding, num_blocks: int) -> None:
        """Turn the last ``num_blocks`` blocks of a reserved tail into a free run."""
        if num_blocks:
            kept = holding.reserve - num_blocks
            self._runs.add(holding.end + kept, num_blocks)
            self._set_reserve(holding, kept)

    def _cut(self, owner: Hashable, num_blocks: int) -> Holding:
        """Keep the first ``num_blocks`` blocks of the owner; return the rest, with the reserved tail."""
        holding = self._holdings[owner]
        check_keep(owner, num_blocks, holding.num_blocks)
        rest = holding.cut(num_blocks)
        if rest.reserve:
            self._set_reserve(holding, 0)
            self._set_reserve(rest, rest.reserve)
        return rest

    def _release(self, holding: Holding) -> None:
        """Free all blocks of a holding and its reserved tail."""
        self._num_free += holding.num_blocks
        self._free_reserve(holding, holding.reserve)
        for start, size in holding:
            self._runs.add(start, size)

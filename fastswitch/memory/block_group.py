"""Block groups: an allocator that gives a request few contiguous groups instead of many blocks.

A prompt takes one free run of exactly its size. An owner that grows does so in place: into the free blocks behind its
last group. Where there are none it starts a *growth group* of ``growth_blocks``; the blocks of it that are not used yet
are its *reserved tail*, which it grows into without a search. A reserve is a preference, never a claim: it counts as
free, and is taken back, the largest first, when others find no other room. So ``allocate`` fails only when the pool is
full, and no block is wasted.

Paper: FastSwitch (arXiv 2411.18424), Dynamic Block Group Manager: an active group of about 60 blocks a request, whose
       unused rest is split off when the pool runs short.
Ours:  no reserve behind a prompt (behind every prompt it shreds a full pool); runs in size classes, see `free_runs`.
Invariants, asserted by `BlockGroupAllocator.check_invariants`:
1. Owned groups, reserved tails and free runs partition ``range(num_blocks)``.
2. A reserved tail begins where its owner's last group ends; an owner without blocks has none.
3. ``num_free`` counts free runs and reserved tails.
4. An owner's groups are maximal: none begins where the one before it ends.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import attrgetter, index
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import UnknownOwnerError, check_keep, check_new_owner, check_request
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
    ((BlockGroup(start=0, num_blocks=10),), (BlockGroup(start=10, num_blocks=10),))
    >>> allocator.allocate("a", 1), allocator.allocate("a", 1)
    ((BlockGroup(start=20, num_blocks=1),), (BlockGroup(start=21, num_blocks=1),))
    >>> allocator.groups("a"), allocator.num_free
    ((BlockGroup(start=0, num_blocks=10), BlockGroup(start=20, num_blocks=2)), 42)

    Args:
        num_blocks: blocks in the pool.
        growth_blocks: blocks reserved where an owner grows; 0 for none.

    Raises:
        ValueError: if ``num_blocks`` is not positive, or ``growth_blocks`` is negative.
    """

    def __init__(self, num_blocks: int, *, growth_blocks: int = 60) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, got {num_blocks}")
        if growth_blocks < 0:
            raise ValueError(f"growth_blocks must not be negative, got {growth_blocks}")
        self._num_blocks = num_blocks
        self._num_free = num_blocks
        self._growth_blocks = growth_blocks
        self._holdings: dict[Hashable, Holding] = {}
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
            return self._place(holding, num_blocks, 0)
        if num_blocks <= holding.reserve:
            self._set_reserve(holding, holding.reserve - num_blocks)
            return (BlockGroup(holding.extend(num_blocks), num_blocks),)
        return self._grow(holding, num_blocks)

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order, in O(number of groups).

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return tuple(map(BlockGroup._make, self._holding(owner)))

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        return self._holding(owner).block_ids()

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
        check_new_owner(new_owner, exists=new_owner in self._holdings)
        self._holdings[new_owner] = self._cut(owner, index(at_block))

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it, in O(number of groups).

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """
        self._release(self._holding(owner))
        del self._holdings[owner]

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks).

        Raises:
            AssertionError: if the allocator is inconsistent, which is a bug of ours.
        """
        self._runs.check_invariants()
        holdings = self._holdings.values()
        for holding in holdings:
            holding.check_invariants()
        owned = [run for holding in holdings for run in holding]
        reserved = [(holding.end, holding.reserve) for holding in holdings if holding.reserve]
        position = 0
        for start, size in sorted([*owned, *reserved, *self._runs]):
            assert start == position, f"block {min(start, position)} is lost or handed out twice"
            position = start + size
        assert position == self._num_blocks, f"blocks from {position} on are lost"
        assert self._num_free == self._runs.num_blocks + sum(size for _, size in reserved), "num_free disagrees"
        assert self._reserving.keys() == {holding for holding in holdings if holding.reserve}, "reserves disagree"

    def _holding(self, owner: Hashable) -> Holding:
        try:
            return self._holdings[owner]
        except KeyError:
            raise UnknownOwnerError(owner) from None

    def _grow(self, holding: Holding, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append to a holding: what fits behind its last group, the rest in a growth group."""
        end, reserve = holding.end, holding.reserve
        here = reserve + self._runs.take_at(end + reserve, num_blocks - reserve + self._growth_blocks)
        used = min(here, num_blocks)
        self._set_reserve(holding, here - used)
        if not used:
            return self._place(holding, num_blocks, self._growth_blocks)
        appended = BlockGroup(holding.extend(used), used)
        return (appended, *self._place(holding, num_blocks - used, self._growth_blocks))

    def _place(self, holding: Holding, num_blocks: int, spare: int) -> tuple[BlockGroup, ...]:
        """Append new groups, few and large, and reserve up to ``spare`` blocks behind the last one."""
        appended = []
        while num_blocks:
            if not self._runs.num_blocks:
                self._take_back()
            start, size = self._runs.take(num_blocks + spare)
            used = min(size, num_blocks)
            holding.append(start, used)
            self._set_reserve(holding, size - used)
            appended.append(BlockGroup(start, used))
            num_blocks -= used
        return tuple(appended)

    def _set_reserve(self, holding: Holding, num_blocks: int) -> None:
        holding.reserve = num_blocks
        if num_blocks:
            self._reserving[holding] = None
        else:
            self._reserving.pop(holding, None)

    def _take_back(self) -> None:
        """Turn the largest reserved tail into a free run."""
        self._free_reserve(max(self._reserving, key=attrgetter("reserve")))

    def _free_reserve(self, holding: Holding) -> None:
        if holding.reserve:
            self._runs.add(holding.end, holding.reserve)
            self._set_reserve(holding, 0)

    def _cut(self, owner: Hashable, num_blocks: int) -> Holding:
        """Keep the first ``num_blocks`` blocks of the owner; return the rest, with the reserved tail."""
        holding = self._holding(owner)
        check_keep(owner, num_blocks, holding.num_blocks)
        rest = holding.cut(num_blocks)
        if rest.reserve:
            self._set_reserve(holding, 0)
            self._set_reserve(rest, rest.reserve)
        return rest

    def _release(self, holding: Holding) -> None:
        """Free all blocks of a holding and its reserved tail."""
        self._num_free += holding.num_blocks
        self._free_reserve(holding)
        for start, size in holding:
            self._runs.add(start, size)

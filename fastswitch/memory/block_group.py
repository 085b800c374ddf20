"""Block groups: an allocator that gives a request few contiguous groups instead of many blocks.

A prompt takes one free run, exactly its size; while half of the pool is free, from the middle of the longest run, with
room to grow on either side. An owner grows in place, into the free blocks behind its last group. Where there are none
it starts a *growth group*, whose unused rest is its *reserved tail*: as long as owners lately grew on average. While
the pool is not nearly full, a prompt has such a tail from the start. A reserve is a preference, never a claim: it
counts as free, and when no free run is long enough, half of the longest reserve is taken back. So nothing fails before
the pool is full, and no block is wasted.

Paper: FastSwitch (arXiv 2411.18424), Dynamic Block Group Manager: an active group of about 60 blocks a request, whose
       unused rest is split off when the pool runs short.
Ours:  reserves only as far as owners do grow, behind a prompt only while there is room (else they shred a full pool for
       nothing); taking back halves; the placement in the middle.
Invariants, asserted by `BlockGroupAllocator.check_invariants`, with those of `free_runs` and `holding`:
1. Owned groups, reserved tails and free runs partition ``range(num_blocks)``.
2. ``num_free`` counts free runs and reserved tails.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import attrgetter, index

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
from fastswitch.memory.free_runs import FreeRuns
from fastswitch.memory.holding import Holding
from fastswitch.memory.owner_thread import WRONG_THREAD, OwnerThread

__all__ = ["BlockGroup", "BlockGroupAllocator"]

SHORT = 0.15  # share of free blocks below which a prompt keeps no tail; by benchmarks/placement_policies.py


class BlockGroupAllocator:
    """Hand out contiguous groups of blocks. Satisfies `BlockAllocator`.

    >>> allocator = BlockGroupAllocator(64, growth_blocks=8)
    >>> allocator.allocate("a", 10), allocator.allocate("b", 10)
    ((BlockGroup(start=27, num_blocks=10),), (BlockGroup(start=0, num_blocks=10),))
    >>> allocator.allocate("a", 1), allocator.groups("a"), allocator.num_free
    ((BlockGroup(start=37, num_blocks=1),), (BlockGroup(start=27, num_blocks=11),), 43)

    Args:
        num_blocks: blocks in the pool.
        growth_blocks: blocks to keep free where an owner grows, at most; 0 for none.

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
        self._mean_growth = 0.0  # blocks by which the last 16 owners or so grew in their time
        self._prompt_reserve = 0  # blocks to keep free behind a prompt, therefore
        self._growth_reserve = growth_blocks  # and behind a growth group; all of them until something is learnt
        self._holdings = OwnerTable[Holding]()
        self._reserving: dict[Holding, None] = {}  # the holdings with a reserved tail, as an ordered set
        self._runs = FreeRuns(num_blocks)
        self._runs.add(0, num_blocks)
        self._thread = OwnerThread()

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can still hand out, reserved tails included."""
        return self._num_free

    @property
    def num_reserved(self) -> int:
        """Blocks in reserved tails, in O(1)."""
        return self._num_free - self._runs.num_blocks

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """The owners that exist, oldest first."""
        return tuple(self._holdings)

    def free_groups(self) -> tuple[BlockGroup, ...]:
        """The free runs and the reserved tails as maximal contiguous groups by start."""
        reserved = [(holding.end, holding.reserve) for holding in self._reserving]
        return merged([*reserved, *self._runs])

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds, in O(1); 0 for an unknown owner."""
        holding = self._holdings.get(owner)
        return holding.num_blocks if holding else 0

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append ``num_blocks`` blocks to ``owner``, in place if possible. All or nothing.

        O(1) in place or if one run fits; else O(groups given + owners that hold a reserve).
        """
        assert self._thread.is_current(), WRONG_THREAD
        num_blocks = index(num_blocks)
        check_request(num_blocks, self._num_free, self._num_blocks)
        holding = self._holdings.get(owner)
        if holding is None:
            holding = self._holdings[owner] = Holding()
        self._num_free -= num_blocks
        if not holding.num_blocks:
            return self._admit(holding, num_blocks)
        if num_blocks < holding.reserve:
            holding.reserve -= num_blocks
            return (BlockGroup(holding.extend(num_blocks), num_blocks),)
        return self._grow(holding, num_blocks)

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order, in O(number of groups)."""
        return tuple([tuple.__new__(BlockGroup, run) for run in self._holdings[owner]])

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order."""
        return self._holdings[owner].block_ids()

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` blocks and free the others. After 0 the owner still exists."""
        assert self._thread.is_current(), WRONG_THREAD
        holding, num_blocks = self._holdings[owner], index(num_blocks)
        check_keep(owner, num_blocks, holding.num_blocks)
        self._release(self._cut(holding, num_blocks))

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Hand the blocks from index ``at_block`` on to ``new_owner``. Either side may end up with none."""
        assert self._thread.is_current(), WRONG_THREAD
        holding, at_block = self._holdings[owner], index(at_block)
        check_split(owner, at_block, holding.num_blocks, new_owner, exists=new_owner in self._holdings)
        self._holdings[new_owner] = self._cut(holding, at_block)

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it, in O(number of groups)."""
        assert self._thread.is_current(), WRONG_THREAD
        holding = self._holdings[owner]
        self._release(holding)
        del self._holdings[owner]
        grown = holding.num_blocks - holding.admitted
        if grown > 0 or self._mean_growth:
            self._mean_growth += (max(grown, 0) - self._mean_growth) / 16
            self._prompt_reserve = min(self._growth_blocks, int(self._mean_growth))
            self._growth_reserve = min(self._growth_blocks, int(self._mean_growth) + 1)

    def hand_over(self) -> None:
        """Let another thread have the allocator: the next that changes it."""
        self._thread.hand_over()

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks); an `AssertionError` is a bug of ours."""
        self._runs.check_invariants()
        holdings = self._holdings.values()
        for holding in holdings:
            holding.check_invariants()
        owned = [run for holding in holdings for run in holding]
        reserved = [(holding.end, holding.reserve) for holding in holdings if holding.reserve]
        check_partition([*owned, *reserved, *self._runs], self._num_blocks)
        assert self.num_reserved == sum(size for _, size in reserved), "num_free disagrees"
        assert self._reserving.keys() == {holding for holding in holdings if holding.reserve}, "reserves disagree"

    def _admit(self, holding: Holding, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Give a holding its first blocks."""
        holding.admitted = num_blocks
        if self._growth_blocks and 2 * self._num_free >= self._num_blocks:
            # Either gap must be worth having: for an owner that grows, or for another prompt like this one.
            start, size = self._runs.take_middle(num_blocks, max(self._growth_blocks, num_blocks))
            if size:
                holding.append(start, size)
                return (BlockGroup(start, size),)
        plentiful = self._num_free >= SHORT * self._num_blocks
        return self._place(holding, num_blocks, self._prompt_reserve if plentiful else 0)

    def _grow(self, holding: Holding, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append to a holding: what fits behind its last group, the rest in a growth group."""
        here, end = holding.reserve, holding.end
        here += self._runs.take_at(end + here, num_blocks - here + self._growth_reserve)
        used = min(here, num_blocks)
        self._set_reserve(holding, here - used)
        holding.extend(used)
        appended = (BlockGroup(end, used),) if used else ()
        return appended + self._place(holding, num_blocks - used, self._growth_reserve)

    def _place(self, holding: Holding, num_blocks: int, spare: int) -> tuple[BlockGroup, ...]:
        """Append new groups, few and large, and reserve up to ``spare`` blocks behind the last one."""
        appended = []
        while num_blocks:
            wanted = num_blocks + spare
            start, size = self._runs.take_fit(wanted)
            if size < wanted and self._reserving:
                start, size = self._share(start, size, wanted)
            used = min(size, num_blocks)
            holding.append(start, used)
            if size > used:
                self._set_reserve(holding, size - used)
            appended.append(BlockGroup(start, used))
            num_blocks -= used
        return tuple(appended)

    def _share(self, start: int, size: int, wanted: int) -> tuple[int, int]:
        """Better the offer of ``size`` free blocks with half of the longest reserve, if that is more."""
        victim = max(self._reserving, key=attrgetter("reserve"))
        # Half, because the owner will go on growing; the far half, because it grows from the near end.
        half = (victim.reserve + 1) // 2
        if half <= size:
            return start, size
        if size:
            self._runs.add(start, size)
        self._free_reserve(victim, half)
        return self._runs.take_fit(wanted)

    def _set_reserve(self, holding: Holding, num_blocks: int) -> None:
        holding.reserve = num_blocks
        if num_blocks:
            self._reserving[holding] = None
        else:
            self._reserving.pop(holding, None)

    def _free_reserve(self, holding: Holding, num_blocks: int) -> None:
        """Turn the last ``num_blocks`` blocks of a reserved tail into a free run."""
        kept = holding.reserve - num_blocks
        self._runs.add(holding.end + kept, num_blocks)
        self._set_reserve(holding, kept)

    def _cut(self, holding: Holding, num_blocks: int) -> Holding:
        """Keep the first ``num_blocks`` blocks of a holding; return the rest, with the reserved tail."""
        rest = holding.cut(num_blocks)
        if rest.reserve:
            self._set_reserve(holding, 0)
            self._set_reserve(rest, rest.reserve)
        return rest

    def _release(self, holding: Holding) -> None:
        """Free all blocks of a holding and its reserved tail."""
        self._num_free += holding.num_blocks
        if holding.reserve:
            self._free_reserve(holding, holding.reserve)
        for start, size in holding:
            self._runs.add(start, size)

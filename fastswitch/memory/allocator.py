"""The protocol that every block allocator satisfies, what it hands out, and its two errors.

An allocator hands out block ids of one pool to *owners*. It knows neither tokens nor bytes nor devices, so one class
serves the device pool and the host pool alike, and the allocators can be swapped for one another. Each belongs to one
thread (`owner_thread`): the calls that change it assert that.

Paper: FastSwitch (arXiv 2411.18424) allocates groups of contiguous blocks instead of single blocks.
Ours:  one protocol for the baselines and the block groups; sharing by ``split`` instead of reference counts.

Invariants of every implementation, asserted by `BlockAllocator.check_invariants`:
1. Free blocks and owned blocks partition ``range(num_blocks)``.
2. ``allocate(owner, n)`` succeeds if and only if ``n <= num_free``; a failed call changes nothing.
3. A block never moves: growth only appends to an owner's block table.
4. An owner exists from its first ``allocate`` (or from being the new owner of a ``split``) until ``free``, also while
   it holds no block.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import index
from typing import NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BlockAllocator",
    "BlockGroup",
    "OutOfBlocksError",
    "OwnerTable",
    "UnknownOwnerError",
    "check_keep",
    "check_partition",
    "check_pool",
    "check_request",
    "check_split",
    "merged",
]

T = TypeVar("T")


class OutOfBlocksError(RuntimeError):
    """The pool has fewer free blocks than were asked for; nothing changed."""


class UnknownOwnerError(KeyError):
    """The allocator has never heard of this owner, or has already freed it."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message should read as one.
        return f"unknown owner {self.args[0]!r}"


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

    @property
    def block_ids(self) -> range:
        """The ids, in order.

        >>> [*BlockGroup(start=8, num_blocks=3).block_ids]
        [8, 9, 10]
        """
        return range(self.start, self.end)


class OwnerTable(dict[Hashable, T]):
    """What each owner holds: a dict whose ``table[owner]`` raises `UnknownOwnerError`."""

    def __missing__(self, owner: Hashable) -> NoReturn:
        raise UnknownOwnerError(owner)


class BlockAllocator(Protocol):
    """What the memory manager needs of an allocator. Constructed as ``Cls(num_blocks)``, options keyword-only."""

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""

    @property
    def num_free(self) -> int:
        """Blocks that ``allocate`` can still hand out, reserved tails included."""

    @property
    def num_reserved(self) -> int:
        """Blocks in reserved tails: free, but left to the owner before them as long as there is room elsewhere."""

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """The owners that exist, oldest first, those without blocks included."""

    def free_groups(self) -> tuple[BlockGroup, ...]:
        """The blocks that nobody owns, reserved tails included, as maximal contiguous groups by start."""

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds, in O(1); 0 for an unknown owner."""

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append ``num_blocks`` blocks to ``owner``, which need not exist yet. All or nothing.

        Returns:
            What was appended, in token order. A group that continues the owner's last block is given as its new part.

        Raises:
            ValueError: if ``num_blocks`` is not positive.
            OutOfBlocksError: if ``num_blocks > num_free``; nothing changed.
        """

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """The owner's blocks as maximal contiguous groups, in token order.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The owner's block table: a new int32 array ``[num_owned]``, in token order.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` blocks and free the others. After 0 the owner still exists.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``num_blocks`` is negative or more than the owner holds.
        """

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Hand the blocks from index ``at_block`` on to ``new_owner``. Either side may end up with none.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
            ValueError: if ``new_owner`` exists already, or ``at_block`` is outside ``[0, num_owned]``.
        """

    def free(self, owner: Hashable) -> None:
        """Free all blocks of ``owner`` and forget it.

        Raises:
            UnknownOwnerError: if ``owner`` does not exist.
        """

    def hand_over(self) -> None:
        """Let another thread have the allocator: the next that changes it. This one must have stopped using it."""

    def check_invariants(self) -> None:
        """Assert every invariant of the implementation, in O(num_blocks).

        Raises:
            AssertionError: if the allocator is inconsistent, which is a bug of ours.
        """


def check_pool(num_blocks: int) -> None:
    """Refuse a pool without blocks.

    Raises:
        ValueError: if ``num_blocks`` is not positive.
    """
    if index(num_blocks) < 1:
        raise ValueError(f"a pool needs at least one block, got {num_blocks}")


def check_request(num_blocks: int, num_free: int, pool_blocks: int) -> None:
    """Refuse a request that is not positive or does not fit.

    Raises:
        ValueError: if ``num_blocks`` is not positive.
        OutOfBlocksError: if ``num_blocks > num_free``.
    """
    if num_blocks < 1:
        raise ValueError(f"num_blocks must be positive, got {num_blocks}")
    if num_blocks > num_free:
        raise OutOfBlocksError(f"need {num_blocks} blocks, {num_free} of {pool_blocks} are free")


def check_keep(owner: Hashable, num_blocks: int, num_owned: int) -> None:
    """Refuse to keep a number of blocks outside ``[0, num_owned]``.

    Raises:
        ValueError: if it is outside.
    """
    if num_blocks < 0:
        raise ValueError(f"cannot keep {num_blocks} blocks of {owner!r}, the number must not be negative")
    if num_blocks > num_owned:
        raise ValueError(f"cannot keep {num_blocks} blocks of {owner!r}, it holds {num_owned}")


def check_split(owner: Hashable, at_block: int, num_owned: int, new_owner: Hashable, *, exists: bool) -> None:
    """Refuse to split at an index outside ``[0, num_owned]``, or into an owner that exists.

    Raises:
        ValueError: if the index is outside, or the new owner ``exists``.
    """
    if exists:
        raise ValueError(f"new_owner {new_owner!r} exists already")
    if at_block < 0:
        raise ValueError(f"cannot split {owner!r} at block {at_block}, the index must not be negative")
    if at_block > num_owned:
        raise ValueError(f"cannot split {owner!r} at block {at_block}, it holds {num_owned}")


def check_partition(runs: Iterable[tuple[int, int]], pool_blocks: int) -> None:
    """Assert that runs, as (start, num_blocks) in any order, partition ``range(pool_blocks)``.

    Raises:
        AssertionError: if a block is in no run, or in two.
    """
    position = 0
    for start, num_blocks in sorted(runs):
        assert start == position, f"block {min(start, position)} is lost or handed out twice"
        assert num_blocks > 0, f"the run at block {start} is empty"
        position = start + num_blocks
    assert position == pool_blocks, f"blocks from {min(position, pool_blocks)} on are lost or do not exist"


def merged(runs: Iterable[tuple[int, int]]) -> tuple[BlockGroup, ...]:
    """Disjoint runs, as (start, num_blocks) in any order, as maximal groups by start.

    >>> merged([(8, 2), (0, 3), (3, 1)])
    (BlockGroup(start=0, num_blocks=4), BlockGroup(start=8, num_blocks=2))
    """
    groups: list[BlockGroup] = []
    for start, num_blocks in sorted(runs):
        if groups and groups[-1].end == start:
            groups[-1] = BlockGroup(groups[-1].start, groups[-1].num_blocks + num_blocks)
        else:
            groups.append(BlockGroup(start, num_blocks))
    return tuple(groups)

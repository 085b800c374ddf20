"""How fragmented a pool is: now, and over the steps of an engine.

Two figures say it. *Groups per owner* is what a swap costs: each group is a copy of its own. *External fragmentation*,
``1 - largest free run / free blocks``, says how far the next prompt is from lying in one piece.

Source: ours; nothing here is specific to an allocator.
Invariants:
1. An owner without blocks has no part in a mean or a maximum.
2. A mean of nothing is 0.0, and so is the fragmentation of a full pool.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastswitch.memory.allocator import BlockAllocator

__all__ = ["OwnerStatistics", "PoolOverTime", "PoolStatistics", "pool_statistics"]


class OwnerStatistics(NamedTuple):
    """What one owner holds of a pool."""

    owner: Hashable
    """Who."""
    num_blocks: int
    """Its blocks; 0 for an owner that exists and holds none."""
    num_groups: int
    """Its maximal contiguous groups."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool at one moment.

    Attributes:
        num_blocks: blocks in the pool.
        num_free: blocks that can still be handed out, reserved tails included.
        num_reserved: blocks in reserved tails.
        largest_free_run: blocks in the longest run that nobody owns, reserved tails included.
        owners: each owner that exists, also one without blocks, in the allocator's order.
    """

    num_blocks: int
    num_free: int
    num_reserved: int
    largest_free_run: int
    owners: tuple[OwnerStatistics, ...]

    @property
    def num_owners(self) -> int:
        """Owners that exist, those without blocks included."""
        return len(self.owners)

    @property
    def num_groups(self) -> int:
        """Groups of all owners together."""
        return sum(each.num_groups for each in self.owners)

    @property
    def groups_per_owner_mean(self) -> float:
        """Groups of an owner that holds blocks, on average."""
        return _ratio(self.num_groups, sum(each.num_blocks > 0 for each in self.owners))

    @property
    def groups_per_owner_max(self) -> int:
        """Groups of the most scattered owner."""
        return max((each.num_groups for each in self.owners), default=0)

    @property
    def blocks_per_group_mean(self) -> float:
        """Blocks in a group, on average over all groups."""
        return _ratio(self.num_blocks - self.num_free, self.num_groups)

    @property
    def external_fragmentation(self) -> float:
        """``1 - largest_free_run / num_free``, in [0, 1): 0.0 if all free blocks are in one run, or none is free."""
        return _external_fragmentation(self.largest_free_run, self.num_free)

    def as_json(self) -> dict[str, int | float]:
        """The figures of the whole pool, by name. Not ``owners``: an owner need not have a form in JSON."""
        return {
            "num_blocks": self.num_blocks,
            "num_free": self.num_free,
            "num_reserved": self.num_reserved,
            "num_owners": self.num_owners,
            "num_groups": self.num_groups,
            "groups_per_owner_mean": self.groups_per_owner_mean,
            "groups_per_owner_max": self.groups_per_owner_max,
            "blocks_per_group_mean": self.blocks_per_group_mean,
            "largest_free_run": self.largest_free_run,
            "external_fragmentation": self.external_fragmentation,
        }


def pool_statistics(allocator: BlockAllocator) -> PoolStatistics:
    """Take the figures of a pool.

    O(groups + free runs) with block groups, O(num_blocks) with single blocks; for every step there is `PoolOverTime`.

    >>> from fastswitch.memory.paged import PagedAllocator
    >>> allocator = PagedAllocator(12)
    >>> for owner in "aba":
    ...     _ = allocator.allocate(owner, 2)
    >>> allocator.free("b")
    >>> statistics = pool_statistics(allocator)
    >>> statistics.owners, statistics.largest_free_run, statistics.external_fragmentation
    ((OwnerStatistics(owner='a', num_blocks=4, num_groups=2),), 6, 0.25)
    """
    return PoolStatistics(
        num_blocks=allocator.num_blocks,
        num_free=allocator.num_free,
        num_reserved=allocator.num_reserved,
        largest_free_run=_largest_free_run(allocator),
        owners=tuple(
            OwnerStatistics(owner, allocator.num_owned(owner), len(allocator.groups(owner)))
            for owner in allocator.owners
        ),
    )


class PoolOverTime:
    """Running figures of one pool, sampled after each step of an engine. Keeps no sample, only sums and maxima.

    >>> from fastswitch.memory.block_group import BlockGroupAllocator
    >>> allocator, over_time = BlockGroupAllocator(64, growth_blocks=4), PoolOverTime()
    >>> for owner in "abab":
    ...     _ = allocator.allocate(owner, 10)
    ...     over_time.sample(allocator)
    >>> over_time.num_samples, over_time.groups_per_owner_mean, over_time.as_json()["num_owned_max"]
    (4, 1.0, 40)

    Blocks owned and reserved are looked at in each sample, the rest in the first of every so many, so a short peak may
    be missed. Groups cost a tuple an owner; fragmentation costs a walk over all free runs.

    Args:
        groups_every: how often groups are counted. Count seldom where blocks are single: there it is O(num_blocks).
        fragmentation_every: how often fragmentation is looked at.

    Raises:
        ValueError: if either is not positive.
    """

    def __init__(self, *, groups_every: int = 1, fragmentation_every: int = 16) -> None:
        for name, every in (("groups_every", groups_every), ("fragmentation_every", fragmentation_every)):
            if every < 1:
                raise ValueError(f"{name} must be positive, got {every}")
        self._groups_every = groups_every
        self._fragmentation_every = fragmentation_every
        self._num_samples = 0
        self._groups = _MeanAndMax()
        self._fragmentation = _MeanAndMax()
        self._num_owned_max = 0
        self._num_reserved_max = 0

    @property
    def num_samples(self) -> int:
        """Calls of `sample` so far."""
        return self._num_samples

    @property
    def groups_per_owner_mean(self) -> float:
        """Groups of an owner that holds blocks; each such owner counts once each time that groups are counted."""
        return self._groups.mean

    def sample(self, allocator: BlockAllocator) -> None:
        """Count in what the pool looks like now; most calls are O(groups of all owners).

        Always given the same allocator; that is not checked.
        """
        if self._num_samples % self._groups_every == 0:
            self._groups.add([num for owner in allocator.owners if (num := len(allocator.groups(owner)))])
        if self._num_samples % self._fragmentation_every == 0:
            self._fragmentation.add([_external_fragmentation(_largest_free_run(allocator), allocator.num_free)])
        self._num_owned_max = max(self._num_owned_max, allocator.num_blocks - allocator.num_free)
        self._num_reserved_max = max(self._num_reserved_max, allocator.num_reserved)
        self._num_samples += 1

    def as_json(self) -> dict[str, int | float]:
        """How often was looked, and the figures: those of `PoolStatistics` with ``_mean`` or ``_max`` behind."""
        return {
            "num_samples": self._num_samples,
            "groups_every": self._groups_every,
            "fragmentation_every": self._fragmentation_every,
            "groups_per_owner_mean": self.groups_per_owner_mean,
            "groups_per_owner_max": int(self._groups.maximum),
            "external_fragmentation_mean": self._fragmentation.mean,
            "external_fragmentation_max": self._fragmentation.maximum,
            "num_owned_max": self._num_owned_max,
            "num_reserved_max": self._num_reserved_max,
        }


class _MeanAndMax:
    """Mean and maximum of numbers that are not negative, kept without the numbers."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    @property
    def mean(self) -> float:
        return _ratio(self.total, self.count)

    def add(self, values: Sequence[float]) -> None:
        self.count += len(values)
        self.total += sum(values)
        self.maximum = max(self.maximum, *values, 0.0)


def _largest_free_run(allocator: BlockAllocator) -> int:
    return max((group.num_blocks for group in allocator.free_groups()), default=0)


def _external_fragmentation(largest_free_run: int, num_free: int) -> float:
    return 1 - largest_free_run / num_free if num_free else 0.0


def _ratio(total: float, count: int) -> float:
    return total / count if count else 0.0

"""The free runs of a pool, found by size and by neighbour.

A run is a maximal stretch of free blocks. Runs are kept in size classes, as a buddy allocator keeps its free lists, and
a bit mask tells which classes are not empty. Unlike a buddy's, a run may start anywhere and have any length, so it
merges with *either* neighbour and nothing is rounded up. Sizes below 64 have a class each; above, each power of two is
divided into 32 classes, so the longest run of a class is hardly longer than the shortest.

Paper: FastSwitch (arXiv 2411.18424), Dynamic Block Group Manager: free groups, split on allocate, merged on free.
Ours:  runs of any length; a good fit by size class, as in TLSF; neighbours found by Knuth's boundary tags.
Invariants, asserted by `FreeRuns.check_invariants`:
1. Runs are disjoint and maximal: no run begins where another ends.
2. The first and the last block of a run are tagged with its size, all other blocks with 0.
3. Each run is in the class of its size, and the mask has the bits of the non-empty classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

__all__ = ["FreeRuns"]

_DIVISION_BITS = 5  # 32 classes to a power of two


class FreeRuns:
    """A set of free runs, empty at first.

    >>> runs = FreeRuns(32)
    >>> runs.add(0, 8); runs.add(20, 4)
    >>> runs.take_fit(3), list(runs)
    ((20, 3), [(0, 8), (23, 1)])
    >>> runs.add(8, 12)
    >>> list(runs), runs.num_blocks
    ([(0, 20), (23, 1)], 21)

    Args:
        pool_blocks: blocks in the pool; memory and construction are O(pool_blocks), all else is not.
    """

    __slots__ = ("_classes", "_mask", "_tags", "num_blocks")

    def __init__(self, pool_blocks: int) -> None:
        self.num_blocks = 0  # blocks in all runs
        # One more than there are blocks: the neighbours of the pool's ends, -1 and pool_blocks, are never free.
        self._tags = [0] * (pool_blocks + 1)
        # Class |-> starts of its runs, as an ordered set.
        self._classes: list[dict[int, None]] = [{} for _ in range(_class_of(pool_blocks) + 1)]
        self._mask = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (start, num_blocks), by start."""
        starts = sorted(start for members in self._classes for start in members)
        return iter([(start, self._tags[start]) for start in starts])

    def add(self, start: int, num_blocks: int) -> None:
        """Add free blocks, merged with the runs on either side, in O(1). That they were not free is not checked."""
        self.num_blocks += num_blocks
        behind = self._tags[start + num_blocks]
        if behind:
            self._remove(start + num_blocks, behind)
            num_blocks += behind
        before = self._tags[start - 1]
        if before:
            start -= before
            self._remove(start, before)
            num_blocks += before
        self._insert(start, num_blocks)

    def take_fit(self, num_blocks: int) -> tuple[int, int]:
        """Take the front of a run that is hardly longer than needed; if none is long enough, all of the longest.

        In O(1). A run in the class of the longest is as good.

        Returns:
            (start, size) of what was taken; the size is at most ``num_blocks``, and 0 without runs.
        """
        shift = num_blocks.bit_length() - 1 - _DIVISION_BITS
        # The first class whose every run is long enough: the size's own class, rounded up.
        number = (shift << _DIVISION_BITS) - (-num_blocks >> shift) if shift > 0 else num_blocks
        enough = self._mask >> number
        if enough:
            number += (enough & -enough).bit_length() - 1
        elif self._mask:
            number = self._mask.bit_length() - 1
        else:
            return 0, 0
        members = self._classes[number]
        # The last one in: to look for the first would cost more with every one that has left.
        start, _ = members.popitem()
        if not members:
            self._mask ^= 1 << number
        tags = self._tags
        size = tags[start]
        tags[start] = tags[start + size - 1] = 0
        if size > num_blocks:
            self._insert(start + num_blocks, size - num_blocks)
            size = num_blocks
        self.num_blocks -= size
        return start, size

    def take_middle(self, num_blocks: int, margin: int) -> tuple[int, int]:
        """Take blocks from the middle of the longest run, if ``margin`` blocks, at least 1, stay free on either side.

        In O(1). A run in the class of the longest is as good.

        Returns:
            (start, size) of what was taken; the size is ``num_blocks``, or 0 if that would leave less.
        """
        if not self._mask:
            return 0, 0
        run = next(reversed(self._classes[self._mask.bit_length() - 1]))
        size = self._tags[run]
        gap = (size - num_blocks) // 2
        if gap < margin:
            return 0, 0
        self._remove(run, size)
        start = run + gap
        # The gap in front goes in last, so that it is taken first: the one behind is for growth.
        self._insert(start + num_blocks, size - gap - num_blocks)
        self._insert(run, gap)
        self.num_blocks -= num_blocks
        return start, num_blocks

    def take_at(self, start: int, most: int) -> int:
        """Take up to ``most`` blocks from the run that begins at ``start``, in O(1).

        Returns:
            How many were taken; 0 if no run begins there. Inside of a run is not asked for.
        """
        size = self._tags[start]
        if not size:
            return 0
        self._remove(start, size)
        taken = min(size, most)
        if size > taken:
            self._insert(start + taken, size - taken)
        self.num_blocks -= taken
        return taken

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(pool blocks).

        Raises:
            AssertionError: if the set is inconsistent, which is a bug of ours.
        """
        runs = list(self)
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs)), "free runs overlap or were not merged"
        tags = {block: n for start, n in runs for block in (start, start + n - 1)}
        assert tags == {block: tag for block, tag in enumerate(self._tags) if tag}, "boundary tags disagree"
        assert self.num_blocks == sum(n for _, n in runs), "count of free blocks disagrees"
        for number, members in enumerate(self._classes):
            assert members.keys() == {start for start, n in runs if _class_of(n) == number}, f"class {number} disagrees"
            assert bool(members) == bool(self._mask >> number & 1), f"mask of class {number} disagrees"

    def _insert(self, start: int, num_blocks: int) -> None:
        self._tags[start] = self._tags[start + num_blocks - 1] = num_blocks
        # `_class_of` written out: the call would take a third of the time.
        shift = num_blocks.bit_length() - 1 - _DIVISION_BITS
        number = (shift << _DIVISION_BITS) + (num_blocks >> shift) if shift > 0 else num_blocks
        members = self._classes[number]
        if not members:
            self._mask |= 1 << number
        members[start] = None

    def _remove(self, start: int, num_blocks: int) -> None:
        self._tags[start] = self._tags[start + num_blocks - 1] = 0
        # `_class_of` written out: the call would take a third of the time.
        shift = num_blocks.bit_length() - 1 - _DIVISION_BITS
        number = (shift << _DIVISION_BITS) + (num_blocks >> shift) if shift > 0 else num_blocks
        members = self._classes[number]
        del members[start]
        if not members:
            self._mask ^= 1 << number


def _class_of(num_blocks: int) -> int:
    """The number of the size class: the leading bits of the size, and how many bits there are behind them."""
    shift = num_blocks.bit_length() - 1 - _DIVISION_BITS
    return (shift << _DIVISION_BITS) + (num_blocks >> shift) if shift > 0 else num_blocks

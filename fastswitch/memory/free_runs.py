"""The free runs of a pool, found by size and by neighbour.

A run is a maximal stretch of free blocks. Runs are kept in power-of-two size classes, as a buddy allocator keeps its
free lists, and a bit mask tells which classes are not empty. Unlike a buddy's, a run may start anywhere and have any
length, so it merges with *either* neighbour and nothing is rounded up.

Paper: FastSwitch (arXiv 2411.18424), Dynamic Block Group Manager: free groups, split on allocate, merged on free.
Ours:  size classes over runs of any length; best fit among the first 16 candidates of a class.
Invariants, asserted by `FreeRuns.check_invariants`:
1. Runs are disjoint and maximal: no run begins where another ends.
2. A run of n blocks is in class ``n.bit_length()``, and the mask has the bits of the non-empty classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from operator import itemgetter

__all__ = ["FreeRuns"]

_CANDIDATES = 16  # looked at in a class; bounds the cost of a best fit


class FreeRuns:
    """A set of free runs.

    >>> runs = FreeRuns()
    >>> runs.add(0, 8); runs.add(20, 4)
    >>> runs.fit(3), runs.take(20, 3)
    ((20, 4), 3)
    >>> runs.add(8, 12)
    >>> list(runs), runs.num_blocks
    ([(0, 20), (23, 1)], 21)
    """

    __slots__ = ("_by_end", "_by_start", "_classes", "_mask", "num_blocks")

    def __init__(self) -> None:
        self.num_blocks = 0  # blocks in all runs
        self._by_start: dict[int, int] = {}  # start |-> num_blocks
        self._by_end: dict[int, int] = {}  # end |-> start
        self._classes: list[dict[int, int]] = [{} for _ in range(64)]  # bit length of num_blocks |-> its `_by_start`
        self._mask = 0

    def __contains__(self, start: int) -> bool:
        """Whether a run begins at ``start``."""
        return start in self._by_start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (start, num_blocks), by start."""
        return iter(sorted(self._by_start.items()))

    def add(self, start: int, num_blocks: int) -> None:
        """Add free blocks, merged with the runs on either side, in O(1). That they were not free is not checked."""
        self.num_blocks += num_blocks
        end = start + num_blocks
        if end in self._by_start:
            num_blocks += self._remove(end)
        if start in self._by_end:
            start = self._by_end[start]
            num_blocks += self._remove(start)
        self._insert(start, num_blocks)

    def fit(self, num_blocks: int) -> tuple[int, int]:
        """The smallest run of at least ``num_blocks`` blocks, else the largest run, in O(1); (0, 0) without runs.

        Of the first candidates in a size class, so the answer is good rather than perfect.

        Returns:
            (start, size) of the whole run, which stays where it is.
        """
        bits = num_blocks.bit_length()
        # At most two of these classes are looked at: in a class above the first every run fits.
        mask = self._mask >> bits << bits
        while mask:
            lowest = mask & -mask
            start, size = self._smallest(lowest.bit_length() - 1, num_blocks)
            if size:
                return start, size
            mask ^= lowest
        top = self._classes[self._mask.bit_length() - 1] if self._mask else {0: 0}
        return max(islice(top.items(), _CANDIDATES), key=itemgetter(1))

    def take(self, start: int, most: int, *, skip: int = 0) -> int:
        """Take up to ``most`` blocks of the run that begins at ``start``, behind its first ``skip`` blocks, in O(1).

        Returns:
            How many were taken.

        Raises:
            KeyError: if no run begins there.
        """
        size = self._remove(start)
        taken = min(size - skip, most)
        if skip:
            self._insert(start, skip)
        if size > skip + taken:
            self._insert(start + skip + taken, size - skip - taken)
        self.num_blocks -= taken
        return taken

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(number of runs).

        Raises:
            AssertionError: if the set is inconsistent, which is a bug of ours.
        """
        runs = list(self)
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs)), "free runs overlap or were not merged"
        assert self._by_end == {start + n: start for start, n in runs}, "ends of free runs disagree"
        assert self.num_blocks == sum(n for _, n in runs), "count of free blocks disagrees"
        for bits, members in enumerate(self._classes):
            expected = {start: n for start, n in runs if n.bit_length() == bits}
            assert members == expected, f"size class {bits} disagrees"
            assert bool(members) == bool(self._mask >> bits & 1), f"mask of size class {bits} disagrees"

    def _smallest(self, bits: int, num_blocks: int) -> tuple[int, int]:
        """The smallest candidate of a class with at least ``num_blocks`` blocks, as (start, size); (-1, 0) if none."""
        best_start, best_size = -1, 0
        for start, size in islice(self._classes[bits].items(), _CANDIDATES):
            if size == num_blocks:
                return start, size
            if size > num_blocks and (size < best_size or not best_size):
                best_start, best_size = start, size
        return best_start, best_size

    def _insert(self, start: int, num_blocks: int) -> None:
        self._by_start[start] = num_blocks
        self._by_end[start + num_blocks] = start
        bits = num_blocks.bit_length()
        self._classes[bits][start] = num_blocks
        self._mask |= 1 << bits

    def _remove(self, start: int) -> int:
        num_blocks = self._by_start.pop(start)
        del self._by_end[start + num_blocks]
        bits = num_blocks.bit_length()
        members = self._classes[bits]
        del members[start]
        if not members:
            self._mask ^= 1 << bits
        return num_blocks

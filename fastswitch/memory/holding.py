"""What one owner holds of a pool: its block table as contiguous runs, and a reserved tail behind the last one.

Source: ours; part of `block_group`.
Invariants, asserted by `Holding.check_invariants`:
1. Runs are maximal: none begins where the one before it ends.
2. A holding without blocks has no reserve.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Holding"]


class Holding:
    """Runs of blocks in token order.

    >>> holding = Holding()
    >>> holding.append(4, 3); holding.extend(1); holding.append(20, 2)
    7
    >>> list(holding), holding.num_blocks, holding.end
    ([(4, 4), (20, 2)], 6, 22)
    >>> rest = holding.cut(3)
    >>> list(holding), list(rest)
    ([(4, 3)], [(7, 1), (20, 2)])
    """

    __slots__ = ("_sizes", "_starts", "num_blocks", "reserve")

    def __init__(self) -> None:
        # Two parallel lists of integers: growth in place costs one addition.
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self.num_blocks = 0  # blocks in all runs
        self.reserve = 0  # blocks behind the last run that are kept for its growth

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (start, num_blocks), in token order."""
        return zip(self._starts, self._sizes, strict=True)

    @property
    def end(self) -> int:
        """The id after the last block's. There must be one."""
        return self._starts[-1] + self._sizes[-1]

    def extend(self, num_blocks: int) -> int:
        """Lengthen the last run, which must exist; the id of the first new block."""
        start = self._starts[-1] + self._sizes[-1]
        self._sizes[-1] += num_blocks
        self.num_blocks += num_blocks
        return start

    def append(self, start: int, num_blocks: int) -> None:
        """Append a run. One that begins at ``end`` would be no new run: that is what `extend` is for."""
        self._starts.append(start)
        self._sizes.append(num_blocks)
        self.num_blocks += num_blocks

    def cut(self, num_blocks: int) -> Holding:
        """Keep the first ``num_blocks`` blocks, at most all; return the rest, which takes the reserve with it."""
        rest = Holding()
        runs = list(self)
        self._starts, self._sizes, self.num_blocks = [], [], 0
        for start, size in runs:
            here = min(size, num_blocks - self.num_blocks)
            if here:
                self.append(start, here)
            if here < size:
                rest.append(start + here, size - here)
        if rest.num_blocks:
            rest.reserve, self.reserve = self.reserve, 0
        return rest

    def block_ids(self) -> NDArray[np.int32]:
        """A new int32 array ``[num_blocks]`` of the blocks' ids, in token order."""
        if len(self._starts) == 1:
            return np.arange(self._starts[0], self.end, dtype=np.int32)
        return np.concatenate([np.empty(0, np.int32), *(np.arange(a, a + n, dtype=np.int32) for a, n in self)])

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(number of runs).

        Raises:
            AssertionError: if the holding is inconsistent, which is a bug of ours.
        """
        assert self.num_blocks == sum(self._sizes), "count of owned blocks disagrees"
        assert all(size > 0 for size in self._sizes), "a run is empty"
        assert all(a + n != b for (a, n), (b, _) in pairwise(self)), "adjacent runs were not merged"
        assert self.num_blocks or not self.reserve, "a holding without blocks has a reserve"

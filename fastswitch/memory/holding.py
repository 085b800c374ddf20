"""What one owner holds of a pool: its block table as contiguous runs, and a reserved tail behind the last one.

The runs are the truth. The ids in them are written out when somebody first asks for them and kept; from then on only
what was appended since is written, so a decoding request's block table costs a copy a step.

Source: ours; part of `block_group` and `buddy`.
Invariants, asserted by `Holding.check_invariants`:
1. Runs are maximal: none begins where the one before it ends.
2. A holding without blocks has no reserve.
3. The ids that were written out are the first of the block table.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Holding"]

_NO_IDS = np.empty(0, np.int32)


class Holding:
    """Runs of blocks in token order.

    >>> holding = Holding()
    >>> holding.append(4, 3); holding.extend(1); holding.append(20, 2)
    7
    >>> list(holding), holding.num_blocks, holding.end
    ([(4, 4), (20, 2)], 6, 22)
    >>> holding.since(3), holding.block_ids()
    ([(7, 1), (20, 2)], array([ 4,  5,  6,  7, 20, 21], dtype=int32))
    >>> rest = holding.cut(3)
    >>> list(holding), list(rest)
    ([(4, 3)], [(7, 1), (20, 2)])
    """

    __slots__ = ("_earlier", "_ids", "_num_ids", "_start", "admitted", "end", "num_blocks", "reserve")

    def __init__(self) -> None:
        # Most owners hold one run, and growth concerns the last one alone: its two ends are all there is to change.
        self._start = 0  # of the last run
        self.end = 0  # the id after the last block's; 0 without blocks
        self._earlier: list[tuple[int, int]] | tuple[()] = ()  # the runs before the last
        self.num_blocks = 0  # blocks in all runs
        self.admitted = 0  # blocks it began with; what is above them has grown
        self.reserve = 0  # blocks behind the last run that are kept for its growth
        self._ids: NDArray[np.int32] = _NO_IDS  # the block table as far as it was written out, and room for more
        self._num_ids = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (start, num_blocks), in token order."""
        return iter(self._runs())

    def since(self, index: int) -> list[tuple[int, int]]:
        """The runs of the blocks from ``index`` on, the first perhaps in part."""
        runs = []
        left = self.num_blocks - index
        for start, size in reversed(self._runs()):
            if not left:
                break
            here = min(size, left)
            runs.append((start + size - here, here))
            left -= here
        return runs[::-1]

    def extend(self, num_blocks: int) -> int:
        """Lengthen the last run, which must exist; the id of the first new block."""
        start = self.end
        self.end += num_blocks
        self.num_blocks += num_blocks
        return start

    def append(self, start: int, num_blocks: int) -> None:
        """Append a run; one that begins at ``end`` lengthens the last."""
        if self.num_blocks:
            if start == self.end:
                self.extend(num_blocks)
                return
            last = (self._start, self.end - self._start)
            if self._earlier:
                self._earlier.append(last)
            else:
                self._earlier = [last]
        self._start = start
        self.end = start + num_blocks
        self.num_blocks += num_blocks

    def cut(self, num_blocks: int) -> Holding:
        """Keep the first ``num_blocks`` blocks, at most all; return the rest, which takes the reserve with it."""
        rest = Holding()
        for start, size in self.since(num_blocks):
            rest.append(start, size)
        rest.admitted = rest.num_blocks
        if rest.num_blocks:
            rest.reserve, self.reserve = self.reserve, 0
        self._shorten(num_blocks)
        return rest

    def block_ids(self) -> NDArray[np.int32]:
        """A new int32 array ``[num_blocks]`` of the blocks' ids, in token order."""
        if self._num_ids < self.num_blocks:
            self._write_ids()
        block_ids: NDArray[np.int32] = self._ids[: self.num_blocks].copy()
        return block_ids

    def check_invariants(self) -> None:
        """Assert the module's invariants, in O(num_blocks).

        Raises:
            AssertionError: if the holding is inconsistent, which is a bug of ours.
        """
        assert self.num_blocks == sum(size for _, size in self), "count of owned blocks disagrees"
        assert all(size > 0 for _, size in self), "a run is empty"
        assert all(a + n != b for (a, n), (b, _) in pairwise(self)), "adjacent runs were not merged"
        assert self.num_blocks or not self.reserve, "a holding without blocks has a reserve"
        ids = [block_id for start, size in self for block_id in range(start, start + size)]
        assert self._num_ids <= len(ids), "more ids are written out than there are blocks"
        assert self._ids[: self._num_ids].tolist() == ids[: self._num_ids], "ids that were written out are wrong"

    def _runs(self) -> list[tuple[int, int]]:
        """All runs as a new list."""
        return [*self._earlier, (self._start, self.end - self._start)] if self.num_blocks else []

    def _shorten(self, num_blocks: int) -> None:
        """Drop all blocks but the first ``num_blocks``."""
        while self.num_blocks > num_blocks:
            dropped = min(self.num_blocks - num_blocks, self.end - self._start)
            self.num_blocks -= dropped
            self.end -= dropped
            if self.end == self._start:
                self._start, size = self._earlier.pop() if self._earlier else (0, 0)
                self.end = self._start + size
        self._num_ids = min(self._num_ids, num_blocks)

    def _write_ids(self) -> None:
        """Write out the ids of the runs that are new since the last time."""
        at = self._num_ids
        new = [np.arange(start, start + size, dtype=np.int32) for start, size in self.since(at)]
        if not at:
            self._ids = new[0] if len(new) == 1 else np.concatenate(new)
        elif len(self._ids) < self.num_blocks:
            spare = max(2 * len(self._ids) - self.num_blocks, 0)
            self._ids = np.concatenate([self._ids[:at], *new, np.empty(spare, np.int32)])
        else:
            np.concatenate(new, out=self._ids[at : self.num_blocks])
        self._num_ids = self.num_blocks

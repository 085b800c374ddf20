"""Bare textbook buddies: no more than yardsticks for the speed of the allocators (`bench_allocators`).

They check nothing and keep no table but owner |-> pieces. `TextbookBuddy` hands out a request as power-of-two pieces,
one for each bit of its size, so it fits wherever there is room. `RoundingBuddy` rounds it up to one piece, which wastes
a quarter of the pool: it needs a larger one, and seldom splits or merges there.
"""

from __future__ import annotations

from itertools import pairwise

from fastswitch.memory.allocator import check_partition


class TextbookBuddy:
    """Free sets by order; a freed piece merges with its buddy, at ``start ^ size``."""

    def __init__(self, num_blocks):
        self.num_blocks = num_blocks
        self.free_starts = [set() for _ in range(num_blocks.bit_length())]
        self.pieces = {}  # owner |-> [(start, order)]
        start = 0
        for order in reversed(range(num_blocks.bit_length())):
            if num_blocks >> order & 1:
                self.free_starts[order].add(start)
                start += 1 << order

    def allocate(self, owner, num_blocks):
        pieces = self.pieces.setdefault(owner, [])
        order = len(self.free_starts)
        while num_blocks:
            order = min(order, num_blocks.bit_length() - 1)
            start = self.take(order)
            if start is None:
                order -= 1
                continue
            pieces.append((start, order))
            num_blocks -= 1 << order

    def take(self, wanted):
        """A piece of that order, split off the next larger one there is; None without one."""
        for larger in range(wanted, len(self.free_starts)):
            if self.free_starts[larger]:
                start = self.free_starts[larger].pop()
                for order in range(wanted, larger):
                    self.free_starts[order].add(start + (1 << order))
                return start
        return None

    def free(self, owner):
        for piece in self.pieces.pop(owner):
            start, order = piece
            while (buddy := start ^ (1 << order)) in self.free_starts[order]:
                self.free_starts[order].remove(buddy)
                start &= buddy  # the lower of the two
                order += 1
            self.free_starts[order].add(start)

    def groups(self, owner):
        pieces = self.pieces[owner]
        return [pieces[0], *(b for a, b in pairwise(pieces) if b[0] != a[0] + (1 << a[1]))]

    def check_invariants(self):
        free = [(start, order) for order, starts in enumerate(self.free_starts) for start in starts]
        owned = [piece for pieces in self.pieces.values() for piece in pieces]
        check_partition([(start, 1 << order) for start, order in [*free, *owned]], self.num_blocks)


class RoundingBuddy(TextbookBuddy):
    """One piece a request."""

    def allocate(self, owner, num_blocks):
        order = (num_blocks - 1).bit_length()
        self.pieces[owner] = [(self.take(order), order)]

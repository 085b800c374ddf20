"""Where the planes of a pool lie in page-locked memory, and at which blocks that memory is cut into pieces.

A *plane* is a contiguous tensor whose dim 0 is the block (see `pool`); a *piece* is what is page-locked by one call. A
copy must not cross two pieces, so each plane starts a piece, and all planes are cut at the same block ids.

Paper: none of this; the text of FastSwitch (arXiv 2411.18424) that we have does not say how host memory is page-locked.
Ours:  edges at the multiples of one number of blocks, so that runs are cut by their ids (`cut_runs`).
Invariants:
1. The pieces are whole pages, partition the memory, and none holds blocks of two planes.
2. Block ``i`` of every plane lies whole in the plane's piece ``i // blocks_per_piece``.
3. Beside the blocks there is less than a page a plane.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import gcd

__all__ = ["MAX_PIECE_BYTES", "PieceMap"]

# Drivers since r580 keep 16 bytes a 4 KiB page in one table a registration, which fails from 512 GiB on. Another engine
# has used 64 GiB; fewer, larger pieces cut fewer runs.
MAX_PIECE_BYTES = 64 * 2**30


@dataclass(frozen=True, slots=True)
class PieceMap:
    """The planes of a pool one behind the other, each from a page's start, in pieces of whole pages.

    >>> one_plane = PieceMap(num_planes=1, num_blocks=100_000, block_bytes=2 * 2**20)
    >>> one_plane.blocks_per_piece, [size / 2**30 for size in one_plane.piece_bytes]
    (32768, [64.0, 64.0, 64.0, 3.3125])
    >>> tiny = PieceMap(num_planes=4, num_blocks=3, block_bytes=100)
    >>> tiny.blocks_per_piece, tiny.piece_bytes == (mmap.PAGESIZE,) * 4
    (None, True)

    Args:
        num_planes: planes of the pool.
        num_blocks: blocks in the pool.
        block_bytes: bytes of a block in one plane.
        max_piece_bytes: bytes of a piece at most, but that it holds the fewest blocks that end with a page in any case.
    """

    num_planes: int
    num_blocks: int
    block_bytes: int
    max_piece_bytes: int = MAX_PIECE_BYTES

    @property
    def plane_bytes(self) -> int:
        """Bytes from one plane's start to the next one's: its blocks, rounded up to whole pages."""
        return -(-self.num_blocks * self.block_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def blocks_per_piece(self) -> int | None:
        """Blocks in each piece of a plane but its last; None if a plane is one piece."""
        if self.plane_bytes <= self.max_piece_bytes:
            return None
        # the fewest blocks that end where a page ends
        step = mmap.PAGESIZE // gcd(mmap.PAGESIZE, self.block_bytes)
        num_blocks = max(1, self.max_piece_bytes // (step * self.block_bytes)) * step
        return num_blocks if num_blocks < self.num_blocks else None

    @property
    def piece_bytes(self) -> tuple[int, ...]:
        """Bytes of each piece, in the order of the memory; in all ``num_planes * plane_bytes``."""
        per_piece = self.blocks_per_piece or self.num_blocks
        num_full = (self.num_blocks - 1) // per_piece
        full_bytes = per_piece * self.block_bytes
        return (*(full_bytes,) * num_full, self.plane_bytes - num_full * full_bytes) * self.num_planes

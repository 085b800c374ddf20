"""What one program of the attention kernel works on, and into how many programs the keys are split.

Ours:  both are chosen in Python, from what a plan knows on the host: nothing waits for a device, and nothing is tuned
at run time. No time was measured on a GPU. What decided is what the compiler says of each tile ahead of time: no
spilled register, and no more shared memory than the smallest card of its kind has; and how many bytes of keys are
under way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastswitch.kernels._kernel_index import STRIP_ROWS, Strips

__all__ = ["Tile", "choose_splits", "choose_tile", "power_of_two"]

MIN_ROWS = 16  # the least that `tl.dot` takes on a GPU, of rows and of head_dim
# Two tiles of K and two of V are under way in each program, 32 KiB for 16-bit types and head_dim 128. Four programs a
# multiprocessor are then four times what an H200 needs to be busy: 0.8 us * 4.8 TB/s / 132 = 29 KiB. The load of a
# tile depends on that of its block ids, so the compiler shares five stages among the two.
PROGRAMS_PER_SM = 4
NUM_STAGES = 5
# On AMD the stages come out of 64 KiB of shared memory.
NUM_STAGES_AMD = 2
# What a split costs is its part, written and read in float32: 2 * 4 bytes for each head and dimension, where a key
# costs 2 * 2 bytes for each dimension. With a group of 4 heads that is 3 % of 256 keys.
MIN_SPLIT_KEYS = 256
# More would leave the merge, which is one program a row and head, a long loop; and the parts of a ragged batch take
# memory for the longest context in every row.
MAX_SPLITS = 64
MAX_PARTS_BYTES = 256 << 20
MAX_DECODE_HEADS = 32  # bounds the registers of a decode with one KV head for many query heads


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile of a program.

    Attributes:
        heads: query heads of one KV head, a power of two.
        strips: strips of query rows.
        m: rows of the matrix product: heads times query rows, padded.
        n: keys of a step.
        dim: head_dim, padded.
        num_warps, num_stages, maxnreg: as Triton has them. Left alone, the assembler spills a register or two of some
            decodes to fit five programs where four will do.
    """

    heads: int
    strips: int
    m: int
    n: int
    dim: int
    num_warps: int
    num_stages: int
    maxnreg: int | None

    @property
    def options(self) -> dict[str, int]:
        """What Triton's launch takes beside the kernel's own arguments."""
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        return options if self.maxnreg is None else {**options, "maxnreg": self.maxnreg}


def choose_tile(group: int, strip_rows: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """The tile for a layer.

    Args:
        group: query heads a KV head.
        strip_rows: rows of a strip, 1 for decodes.
        head_dim: up to 256.
        dtype: the widest of query and caches.
    """
    dim = max(MIN_ROWS, power_of_two(head_dim))
    if dtype == torch.float32:
        return _float32_tile(group, strip_rows, dim)
    most_rows = 128 if dim <= 128 else 32
    if strip_rows == 1:
        heads, strips = min(power_of_two(group), most_rows, MAX_DECODE_HEADS), 1
        m, num_warps = max(MIN_ROWS, heads), 4
    else:
        heads = min(power_of_two(group), most_rows // STRIP_ROWS)
        strips, m, num_warps = most_rows // STRIP_ROWS // heads, most_rows, 8 if most_rows == 128 else 4
    num_stages = NUM_STAGES if dim <= 128 or m == MIN_ROWS else 3
    maxnreg = 128 if m == MIN_ROWS and dim <= 128 else None
    if torch.version.hip:
        num_stages, maxnreg = NUM_STAGES_AMD, None
    return Tile(heads, strips, m, 64 if dim <= 64 else 32, dim, num_warps, num_stages, maxnreg)


def _float32_tile(group: int, strip_rows: int, dim: int) -> Tile:
    """Products of float32 are made without tensor cores, and every row of theirs costs registers: there are few."""
    heads = min(power_of_two(group), MIN_ROWS) if strip_rows == 1 else 1
    n = 16 if torch.version.hip and dim > 128 else 32  # for the sake of AMD's shared memory
    return Tile(heads, 1, MIN_ROWS, n, dim, num_warps=8, num_stages=2, maxnreg=None)


def choose_splits(strips: Strips, tile: Tile, head_tiles: int, visible: int, part_numel: int, num_sms: int) -> int:
    """Into how many ranges the keys are split, so that the device is busy and ranges are alike.

    Args:
        strips: what is attended.
        tile: of a program.
        head_tiles: programs for the heads of a tile's rows.
        visible: most keys that one program attends.
        part_numel: numbers that a split writes, in float32.
        num_sms: multiprocessors of the device.
    """
    keys = min(strips.sum_keys, len(strips.index) * visible) * head_tiles / tile.strips
    share = max(MIN_SPLIT_KEYS, keys / (PROGRAMS_PER_SM * num_sms))
    return max(1, min(MAX_SPLITS, MAX_PARTS_BYTES // (4 * part_numel), round(visible / share)))


def power_of_two(number: int) -> int:
    """The least power of two that is not below ``number``, at least 1."""
    return 1 << (number - 1).bit_length()

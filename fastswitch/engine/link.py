"""An emulated link between the tiers, for machines where device and host are the same memory.

Ours. On a CPU a copy costs next to nothing beside an iteration, so no scheduling effect of a link would show. The real
bytes are moved, then the issuing thread sleeps for what the job would cost on a link, once a job:

| way | seconds of a job |
|---|---|
| ``per_block``, ``per_run`` | sum over its copy calls of max(call, bytes / link) |
| ``batched`` | max(call + 0.6 us x entries, bytes / link) |
| ``zero_copy`` | one launch + bytes / (0.8 x link) |
| ``staged`` | one launch + a gather at the device's bandwidth + a copy call of 32 MiB after the other |

Figures made this way say "link emulated".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastswitch.kernels.staged import STAGE_BYTES

__all__ = ["EmulatedLink"]

ENTRY_S = 0.6e-6  # of a batch: what other engines measured on an H100 and an H200
KERNEL_SHARE = 0.8  # of the link, for a kernel that reads or writes host memory
# The gather reads and writes each byte at the device's bandwidth: 600 GB/s beside a link of 32 on an A10.
GATHER_OVER_LINK = 600 / 32 / 2


@dataclass(frozen=True, slots=True)
class EmulatedLink:
    """What a copy job costs on a link.

    Attributes:
        call_us: microseconds to issue one copy call, or to launch a kernel.
        gbps: gigabytes (1e9) a second, one way.
        gather_gbps: of a gather on the device; None has it as much faster than the link as on an A10.

    Raises:
        ValueError: if ``call_us`` is negative, or a bandwidth is not positive.
    """

    call_us: float
    gbps: float
    gather_gbps: float | None = None

    def __post_init__(self) -> None:
        if not self.call_us >= 0:
            raise ValueError(f"call_us must not be negative, got {self.call_us}")
        for name in ("gbps", "gather_gbps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def cost_s(self, way: str, runs: NDArray[np.int64], pieces_per_block: int, piece_bytes: int) -> float:
        """Seconds that a job takes.

        Args:
            way: a key of ``fastswitch.kernels.TRANSFERS``.
            runs: ``[n, 3]`` rows ``(src_start, dst_start, num_blocks)``.
            pieces_per_block: contiguous pieces of a block in the pool's layout.
            piece_bytes: bytes of one.

        Raises:
            ValueError: if the way's cost is not known.
        """
        call_s, bytes_per_s = self.call_us * 1e-6, self.gbps * 1e9
        num_blocks = runs[:, 2]
        num_bytes = int(num_blocks.sum()) * pieces_per_block * piece_bytes
        if not num_bytes:
            return 0.0
        if way in ("per_block", "per_run"):
            blocks_per_call = np.ones(int(num_blocks.sum()), np.int64) if way == "per_block" else num_blocks
            seconds = np.maximum(call_s, blocks_per_call * piece_bytes / bytes_per_s)
            return float(seconds.sum()) * pieces_per_block
        if way == "batched":
            return max(call_s + ENTRY_S * len(runs) * pieces_per_block, num_bytes / bytes_per_s)
        if way == "zero_copy":
            return call_s + num_bytes / (KERNEL_SHARE * bytes_per_s)
        if way == "staged":
            gather = GATHER_OVER_LINK * bytes_per_s if self.gather_gbps is None else self.gather_gbps * 1e9
            whole, rest = divmod(num_bytes, STAGE_BYTES)
            crossing = whole * max(call_s, STAGE_BYTES / bytes_per_s) + (max(call_s, rest / bytes_per_s) if rest else 0)
            return call_s + num_bytes / gather + crossing
        raise ValueError(f"the emulated link does not know the cost of {way!r}")

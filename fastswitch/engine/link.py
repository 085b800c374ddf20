"""An emulated link between the tiers, for machines where device and host are the same memory.

Ours. On a CPU a copy costs next to nothing beside an iteration, so no scheduling effect of a link would show. The real
bytes are moved, then the issuing thread sleeps for what the job would cost on a link: ``max(call_us, bytes / link)``
for each copy call, once a job. Figures made this way say "link emulated".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EmulatedLink"]


@dataclass(frozen=True, slots=True)
class EmulatedLink:
    """What a copy job costs on a link.

    Attributes:
        call_us: microseconds to issue one copy call.
        gbps: gigabytes (1e9) a second, one way.
    """

    call_us: float
    gbps: float

    def __post_init__(self) -> None:
        if not self.call_us >= 0:
            raise ValueError(f"call_us must not be negative, got {self.call_us}")
        if not self.gbps > 0:
            raise ValueError(f"gbps must be positive, got {self.gbps}")

    def cost_s(self, way: str, runs: NDArray[np.int64], pieces_per_block: int, piece_bytes: int) -> float:
        """Seconds that a job takes.

        Args:
            way: ``per_block`` (a call for each block and piece) or ``per_run`` (a call for each run and piece).
            runs: ``[n, 3]`` rows ``(src_start, dst_start, num_blocks)``.
            pieces_per_block: contiguous pieces of a block in the pool's layout.
            piece_bytes: bytes of one.

        Raises:
            ValueError: if the way's cost is not known.
        """
        if way not in ("per_block", "per_run"):
            raise ValueError(f"the emulated link knows the cost of per_block and per_run, not of {way!r}")
        num_blocks = runs[:, 2]
        blocks_per_call = np.ones(int(num_blocks.sum()), np.int64) if way == "per_block" else num_blocks
        seconds = np.maximum(self.call_us * 1e-6, blocks_per_call * piece_bytes / (self.gbps * 1e9))
        return float(seconds.sum()) * pieces_per_block

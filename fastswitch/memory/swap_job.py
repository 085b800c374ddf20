"""One copy of KV between the tiers, as a value.

Ours. The manager decides what is copied and where; whoever moves the bytes needs nothing but the runs. A job covers
whole blocks: the partly filled last block of an earlier copy is copied again when it has grown.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["SegmentRange", "SwapDirection", "SwapJob"]


class SwapDirection(enum.Enum):
    """Which way the bytes go: ``SWAP_OUT`` device to host, ``SWAP_IN`` host to device."""

    SWAP_OUT = "swap_out"
    SWAP_IN = "swap_in"


@dataclass(frozen=True, slots=True)
class SegmentRange:
    """Tokens ``[start_token, end_token)`` of one segment: what becomes valid at the destination when a job lands."""

    segment_id: Hashable
    start_token: int
    end_token: int


@dataclass(frozen=True, slots=True, eq=False)
class SwapJob:
    """One copy request; its blocks belong to it until it is landed or aborted.

    Attributes:
        job_id: counts up from 0 within one manager; the order of submission.
        request_id: for whom the copy is made.
        direction: device to host or host to device.
        ranges: the tokens that the job makes valid at its destination, one entry a segment of the request.
        runs: ``[n, 3]`` int64, rows ``(src_start, dst_start, num_blocks)``, as ``direction`` says.
        after: jobs that still read blocks which this one writes: its copies must start after theirs are over.
        ahead: made before anybody needs it; the request stays where it is.
        num_blocks: blocks that the job copies; counted once, when it is made.
    """

    job_id: int
    request_id: Hashable
    direction: SwapDirection
    ranges: tuple[SegmentRange, ...]
    runs: NDArray[np.int64]
    after: tuple[SwapJob, ...] = ()
    ahead: bool = False
    num_blocks: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_blocks", int(self.runs[:, 2].sum()))

    @property
    def num_runs(self) -> int:
        """Runs that are contiguous on both sides."""
        return len(self.runs)

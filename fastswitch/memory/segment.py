"""The book-keeping of one segment of KV, changed by ``KVCacheManager`` alone.

Ours. A request reads a tuple of segments in order; today that is one, its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fastswitch.memory.swap_job import SwapJob

__all__ = ["Segment"]


@dataclass(slots=True, eq=False)
class Segment:
    """Where one segment stands between the tiers.

    Attributes:
        segment_id: its owner name in the allocators of both tiers.
        resident: its request wants it on the device; False once it is evicted.
        idle: its conversation is between two turns.
        job: the copy that reads or writes it now.
    """

    segment_id: Hashable
    resident: bool = True
    idle: bool = False
    job: SwapJob | None = None

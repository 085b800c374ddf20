"""Segments of KV, and the requests that hold them.

Ours. A request reads a tuple of segments in token order. The last one is its own and grows; those before it are
*sealed*: whole blocks, of a length that never changes, so that several requests may read the same one. Sharing needs no
reference counts in the allocators: a segment is an owner there, and knows its holders here.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from fastswitch.memory.swap_job import SwapJob

__all__ = ["Holder", "Segment"]


@dataclass(slots=True, eq=False)
class Segment:
    """A piece of KV that is stored once on each tier, and moved and freed as one.

    Attributes:
        segment_id: its owner name in the allocators of both tiers.
        num_tokens: its length once it is sealed; None while it grows.
        holders: the requests that read it; none while a copy of a released request still runs.
        job: the copy that reads or writes it now.
        quarantined: that copy hangs.
    """

    segment_id: Hashable
    num_tokens: int | None = None
    holders: list[Holder] = field(default_factory=list)
    job: SwapJob | None = None
    quarantined: bool = False

    @property
    def resident(self) -> bool:
        """Whether a holder wants it on the device."""
        for holder in self.holders:  # noqa: SIM110 - `any` over a generator costs three times as much for one holder
            if holder.resident:
                return True
        return False

    @property
    def awaited(self) -> bool:
        """Whether a holder is not settled on the device, and may yet rely on the host's copy."""
        return not all(holder.resident and holder.job is None for holder in self.holders)

    @property
    def idle(self) -> bool:
        """Whether all its holders are between two turns."""
        return all(holder.idle for holder in self.holders)


@dataclass(slots=True, eq=False)
class Holder:
    """What the manager knows of one request.

    Attributes:
        request_id: its name.
        segments: what it reads, in token order; the last one is its own and not sealed.
        resident: it wants its KV on the device; False once it is evicted.
        idle: its conversation is between two turns.
        job: the copy that was begun for it and has not ended.
    """

    request_id: Hashable
    segments: tuple[Segment, ...] = ()
    resident: bool = True
    idle: bool = False
    job: SwapJob | None = None

    @property
    def own(self) -> Segment:
        """The segment that grows."""
        return self.segments[-1]

    @property
    def shared_len(self) -> int:
        """Tokens in front of ``own``."""
        return sum(segment.num_tokens or 0 for segment in self.segments[:-1])

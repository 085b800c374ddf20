"""Whose copy is given up when a tier runs short.

Ours. On the device only *clean* copies are given up: evicted, no job, the host has all that the device has. On the
host, in this order: copies that are redundant because the device copy is right and stays, best-ranked holder first (it
leaves last, so it misses its host copy last); then clean copies of idle conversations, on both tiers, lowest rank
first. A copy that a job reads or writes is never given up. What is asked for is there in full or nothing is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence

from fastswitch.memory.allocator import OutOfBlocksError
from fastswitch.memory.segment import Segment
from fastswitch.memory.tier import Tier

__all__ = ["Reclaimer"]

MIN_TAIL = 64  # blocks; many short tails cut from many copies shred the pool (seen in a simulation)


class Reclaimer:
    """Makes room on either tier at the cost of whom it hurts least.

    Args:
        device: the device's copies.
        host: the host's copies.
    """

    def __init__(self, device: Tier, host: Tier) -> None:
        self._device = device
        self._host = host
        self._rank: dict[Hashable, int] = {}  # segment_id |-> position of its best holder

    def prefer(self, segment_ids: Iterable[Hashable]) -> None:
        """Say who matters, best first; unnamed segments come after all named ones."""
        self._rank = {}
        for segment_id in segment_ids:
            self._rank.setdefault(segment_id, len(self._rank))

    def is_clean(self, segment: Segment) -> bool:
        """Whether the segment's device blocks can be given back at once."""
        lacking = self._device.valid_len(segment.segment_id) > self._host.valid_len(segment.segment_id)
        return not segment.resident and segment.job is None and not lacking

    def clean_blocks(self, segments: Iterable[Segment]) -> int:
        """Device blocks that the clean ones among ``segments`` hold."""
        return sum(self._device.num_blocks(s.segment_id) for s in segments if self.is_clean(s))

    def host_room(self, segments: Collection[Segment]) -> int:
        """Host blocks that are free, or that ``segments`` may lose."""
        return self._host.num_free + sum(self._host.num_blocks(s.segment_id) for s in self.host_victims(segments))

    def host_victims(self, segments: Collection[Segment]) -> list[Segment]:
        """Segments whose host copy may be given up, in that order."""
        held = [s for s in segments if s.job is None and self._host.num_blocks(s.segment_id)]
        # Not clean without a job: resident, or its swap-out failed. The device has all of it, and keeps it.
        redundant = [s for s in held if not self.is_clean(s)]
        idle = [s for s in held if s.idle and self.is_clean(s)]
        return sorted(redundant, key=self._position) + sorted(idle, key=self._position, reverse=True)

    def reclaim_device(self, num_blocks: int, segments: Collection[Segment], keep: Sequence[Segment]) -> None:
        """Have ``num_blocks`` free device blocks, cutting clean copies other than ``keep``, lowest rank first.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        if num_blocks <= self._device.num_free:
            return
        victims = [s for s in segments if s not in keep and self.is_clean(s)]
        self._check(self._device, num_blocks, victims)
        for segment in sorted(victims, key=self._position, reverse=True):
            short = num_blocks - self._device.num_free
            if short <= 0:
                return
            kept = self._device.num_blocks(segment.segment_id) - max(short, MIN_TAIL)
            self._device.cut(segment.segment_id, kept * self._device.block_size if kept >= MIN_TAIL else 0)

    def reclaim_host(self, num_blocks: int, segments: Collection[Segment], keep: Sequence[Segment]) -> None:
        """Have ``num_blocks`` free host blocks, giving up whole copies other than those of ``keep``.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        if num_blocks <= self._host.num_free:
            return
        victims = [s for s in self.host_victims(segments) if s not in keep]
        self._check(self._host, num_blocks, victims)
        for segment in victims:
            if num_blocks <= self._host.num_free:
                return
            if self.is_clean(segment):  # what is left of it on the device will not be backed by the host
                self._device.cut(segment.segment_id, 0)
            self._host.cut(segment.segment_id, 0)

    def _position(self, segment: Segment) -> int:
        return self._rank.get(segment.segment_id, len(self._rank))

    def _check(self, tier: Tier, num_blocks: int, victims: Iterable[Segment]) -> None:
        reclaimable = sum(tier.num_blocks(segment.segment_id) for segment in victims)
        if num_blocks > tier.num_free + reclaimable:
            total = tier.allocator.num_blocks
            raise OutOfBlocksError(
                f"need {num_blocks} blocks, {tier.num_free} of {total} are free and {reclaimable} can be reclaimed"
            )

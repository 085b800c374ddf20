"""Whose copy is given up when a tier runs short.

Ours. On the device only *clean* copies are given up: no holder resident, no job, the host has all that the device has.
On the host, in this order:

1. whole copies that are redundant, because the device copy is right and stays: best-ranked holder first (it leaves
   last, so it misses its host copy last);
2. clean copies of idle conversations, on both tiers, lowest rank first;
3. tails of at least ``min_tail`` blocks of what is clean and ranks below whoever asks, on both tiers, lowest rank
   first. Many short tails cut from many copies would shred the pool.

A copy that a job reads or writes is never given up. What is asked for is there in full or nothing is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import replace

from fastswitch.memory.allocator import OutOfBlocksError
from fastswitch.memory.kv_statistics import GivenUp
from fastswitch.memory.segment import Segment
from fastswitch.memory.tier import Tier

__all__ = ["Reclaimer"]


class Reclaimer:
    """Makes room on either tier at the cost of whom it hurts least.

    Args:
        device: the device's copies.
        host: the host's copies.
        min_tail: blocks; no shorter piece is cut off a copy, nor left of one on the device.

    Attributes:
        given_up: host blocks, so far.

    Raises:
        ValueError: if ``min_tail`` is not positive.
    """

    def __init__(self, device: Tier, host: Tier, min_tail: int) -> None:
        if min_tail < 1:
            raise ValueError(f"min_tail must be positive, got {min_tail}")
        self._device = device
        self._host = host
        self._min_tail = min_tail
        self.given_up = GivenUp()
        self._rank: dict[Hashable, int] = {}  # segment_id |-> position of its best holder

    def prefer(self, segment_ids: Iterable[Hashable]) -> None:
        """Say who matters, best first; unnamed segments come after all named ones."""
        self._rank = {}
        for segment_id in segment_ids:
            self._rank.setdefault(segment_id, len(self._rank))

    def is_clean(self, segment: Segment) -> bool:
        """Whether the segment's device blocks can be given back at once."""
        lacking = self._device.valid_len(segment.segment_id) > self._host.valid_len(segment.segment_id)
        return not lacking and segment.job is None and not segment.resident

    def clean_blocks(self, segments: Iterable[Segment]) -> int:
        """Device blocks that the clean ones among ``segments`` hold."""
        return sum(self._device.num_blocks(s.segment_id) for s in segments if self.is_clean(s))

    def host_spare(self, segments: Iterable[Segment]) -> int:
        """Host blocks that ``segments`` may lose to somebody who ranks above them all."""
        return sum(give for _, give in self._host_victims(segments, rank=-1))

    def reclaim_device(self, num_blocks: int, segments: Collection[Segment], keep: Sequence[Segment]) -> None:
        """Have ``num_blocks`` free device blocks, cutting clean copies other than ``keep``, lowest rank first.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        if num_blocks <= self._device.num_free:
            return
        victims = [s for s in segments if s not in keep and self.is_clean(s)]
        self._check(self._device, num_blocks, sum(self._device.num_blocks(s.segment_id) for s in victims))
        for segment in sorted(victims, key=self._position, reverse=True):
            short = num_blocks - self._device.num_free
            if short <= 0:
                return
            kept = self._device.num_blocks(segment.segment_id) - max(short, self._min_tail)
            self._device.cut(segment.segment_id, kept * self._device.block_size if kept >= self._min_tail else 0)

    def reclaim_host(self, num_blocks: int, segments: Collection[Segment], keep: Sequence[Segment]) -> list[Segment]:
        """Have ``num_blocks`` free host blocks, giving up copies other than those of ``keep``, for whom they are.

        Returns:
            Segments that lost KV which is nowhere else.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        if num_blocks <= self._host.num_free:
            return []
        rank = max(map(self._position, keep))  # its own segment's; one that it shares may rank higher
        victims = [entry for entry in self._host_victims(segments, rank) if entry[0] not in keep]
        self._check(self._host, num_blocks, sum(give for _, give in victims))
        lost = []
        for segment, give in victims:
            short = num_blocks - self._host.num_free
            if short <= 0:
                break
            if self.is_clean(segment):
                lost.append(segment)
                self._give_up(segment, give if segment.idle else min(give, max(short, self._min_tail)))
            else:
                self._give_up(segment, give)
        return lost

    def _host_victims(self, segments: Iterable[Segment], rank: int) -> list[tuple[Segment, int]]:
        """Segments whose host copy may be given up for somebody of that rank, in order, and how many blocks of it."""
        held = [(s, self._host.num_blocks(s.segment_id)) for s in segments if s.job is None]
        held = [(segment, num_blocks) for segment, num_blocks in held if num_blocks]
        redundant = [entry for entry in held if self._is_redundant(entry[0])]
        clean = [entry for entry in held if self.is_clean(entry[0])]
        idle = [entry for entry in clean if entry[0].idle]
        tails = [(s, n) for s, n in clean if self._is_tail(s) and n >= self._min_tail and self._position(s) > rank]
        return [
            *sorted(redundant, key=self._entry_position),
            *sorted(idle, key=self._entry_position, reverse=True),
            *sorted(tails, key=self._entry_position, reverse=True),
        ]

    def _is_redundant(self, segment: Segment) -> bool:
        """Whether the device has all of it and keeps it: every holder is settled there, or a swap-out has failed."""
        if segment.resident:
            return not segment.awaited
        return self._device.valid_len(segment.segment_id) > self._host.valid_len(segment.segment_id)

    def _is_tail(self, segment: Segment) -> bool:
        """Whether a part of it may go: what lies behind a sealed segment would be of no use without it."""
        return segment.num_tokens is None and not segment.idle

    def _give_up(self, segment: Segment, num_blocks: int) -> None:
        """Cut that many host blocks off its end; what the device has of a clean one goes with them."""
        kept = (self._host.num_blocks(segment.segment_id) - num_blocks) * self._host.block_size
        self._count(segment, num_blocks)
        if self.is_clean(segment):  # what is left of it on the device will not be backed by the host
            self._device.cut(segment.segment_id, kept)
        self._host.cut(segment.segment_id, kept)

    def _count(self, segment: Segment, num_blocks: int) -> None:
        kind = "redundant" if not self.is_clean(segment) else "idle" if segment.idle else "tails"
        self.given_up = replace(self.given_up, **{kind: getattr(self.given_up, kind) + num_blocks})

    def _position(self, segment: Segment) -> int:
        return self._rank.get(segment.segment_id, len(self._rank))

    def _entry_position(self, entry: tuple[Segment, int]) -> int:
        return self._position(entry[0])

    def _check(self, tier: Tier, num_blocks: int, reclaimable: int) -> None:
        if num_blocks > tier.num_free + reclaimable:
            total = tier.allocator.num_blocks
            raise OutOfBlocksError(
                f"need {num_blocks} blocks, {tier.num_free} of {total} are free and {reclaimable} can be reclaimed"
            )

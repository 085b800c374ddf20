"""Whose copy is given up when a tier runs short.

Ours. On the device only *clean* copies are given up: no holder resident, no job, the host has all that the device has;
lowest rank first. On the host, in this order:

1. whole copies that are redundant, because the device copy is right and stays: the most scattered first (they cost most
   when they are read, and are written anew in better places);
2. clean copies of idle conversations, on both tiers, lowest rank first;
3. tails of at least ``min_tail`` blocks of what is clean and ranks below whoever asks, on both tiers, lowest rank
   first. Many short tails cut from many copies would shred the pool.

A copy that a job reads or writes is never given up. What is asked for is there in full or nothing is touched. But
what costs no KV (clean on the device, redundant on the host) is given up early and in bulk, so that some room always
stays free: room that is found block by block falls into as many runs, and every later swap pays for them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import replace

from fastswitch.memory.allocator import OutOfBlocksError
from fastswitch.memory.kv_statistics import GivenUp
from fastswitch.memory.segment import Holder, Segment
from fastswitch.memory.tier import Tier

__all__ = ["Reclaimer"]

LOW = 2 / 3  # of the headroom: below it a tier runs low


class Reclaimer:
    """Makes room on either tier at the cost of whom it hurts least.

    Args:
        device: the device's copies.
        host: the host's copies.
        min_tail: blocks; no shorter piece is cut off a copy, nor left of one on the device.
        headroom: share of the smaller pool; when a tier runs low, so much of what costs no KV is made free at once.

    Attributes:
        given_up: host blocks, so far.

    Raises:
        ValueError: if ``min_tail`` is not positive, or ``headroom`` outside [0, 1].
    """

    def __init__(self, device: Tier, host: Tier, min_tail: int, headroom: float) -> None:
        if min_tail < 1:
            raise ValueError(f"min_tail must be positive, got {min_tail}")
        if not 0 <= headroom <= 1:
            raise ValueError(f"headroom must be in [0, 1], got {headroom}")
        # Of the smaller pool: a share of a large host would be more than all redundant copies together.
        self._room_to_keep = int(headroom * min(tier.allocator.num_blocks for tier in (device, host)))
        self._device = device
        self._host = host
        self._min_tail = min_tail
        self.given_up = GivenUp()
        self._preferred: tuple[Hashable, ...] = ()
        self._positions: dict[Hashable, int] | None = None  # request_id |-> position; made when somebody is to lose

    def prefer(self, request_ids: Iterable[Hashable]) -> None:
        """Say who matters, best first; unnamed requests come after all named ones."""
        self._preferred = tuple(request_ids)
        self._positions = None

    @property
    def _rank(self) -> dict[Hashable, int]:
        """request_id |-> how many are preferred to it."""
        if self._positions is None:
            self._positions = {}
            for request_id in self._preferred:
                self._positions.setdefault(request_id, len(self._positions))
        return self._positions

    def position(self, segment: Segment) -> tuple[int, bool]:
        """The rank of its best holder; of one holder's segments what lies behind goes before its prefix."""
        rank = self._rank
        ranks = [rank.get(holder.request_id, len(rank)) for holder in segment.holders]
        return min(ranks, default=len(rank)), segment.num_tokens is None

    def num_idle(self, tier: Tier) -> int:
        """Blocks there that are free beyond those that are to be kept free."""
        return max(0, tier.num_free - self._room_to_keep)

    def runs_low(self, tier: Tier, num_blocks: int) -> bool:
        """Whether taking ``num_blocks`` more would leave too little free for the next to find it in few runs."""
        return num_blocks > 0 and tier.num_free - num_blocks < LOW * self._room_to_keep

    def is_clean(self, segment: Segment) -> bool:
        """Whether the segment's device blocks can be given back at once."""
        if segment.job is not None or segment.resident:
            return False
        return self._device.valid_len(segment.segment_id) <= self._host.valid_len(segment.segment_id)

    def clean_blocks(self, segments: Iterable[Segment]) -> int:
        """Device blocks that the clean ones among ``segments`` hold."""
        return sum(self._device.num_blocks(s.segment_id) for s in segments if self.is_clean(s))

    def host_spare(self, segments: Iterable[Segment]) -> int:
        """Host blocks that ``segments`` may lose to somebody who ranks above them all."""
        return sum(self._host.num_blocks(s.segment_id) for s in segments if self._kind(s, rank=-1) is not None)

    def reclaim_device(self, num_blocks: int, segments: Collection[Segment], keep: Sequence[Segment]) -> None:
        """Have ``num_blocks`` free device blocks, cutting clean copies other than ``keep``. The device runs low.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        victims = [s for s in segments if s not in keep and self.is_clean(s)]
        self._check(self._device, num_blocks, sum(self._device.num_blocks(s.segment_id) for s in victims))
        wanted = num_blocks + self._room_to_keep
        for segment in sorted(victims, key=self.position, reverse=True):
            short = wanted - self._device.num_free
            if short <= 0:
                return
            kept = self._device.num_blocks(segment.segment_id) - max(short, self._min_tail)
            self._device.cut(segment.segment_id, kept * self._device.block_size if kept >= self._min_tail else 0)

    def reclaim_host(self, num_blocks: int, segments: Collection[Segment], asking: Holder) -> list[Segment]:
        """Have ``num_blocks`` free host blocks for ``asking``, giving up others' copies. The host runs low.

        Returns:
            Segments that lost KV which is nowhere else.

        Raises:
            OutOfBlocksError: nothing changed.
        """
        rank = self._rank.get(asking.request_id, len(self._rank))
        victims = self._host_victims([s for s in segments if s not in asking.segments], rank)
        self._check(self._host, num_blocks, sum(self._host.num_blocks(s.segment_id) for _, s in victims))
        wanted, lost = num_blocks + self._room_to_keep, []
        for kind, segment in victims:
            short = (wanted if kind == "redundant" else num_blocks) - self._host.num_free
            if short <= 0:
                continue
            held = self._host.num_blocks(segment.segment_id)
            self._give_up(kind, segment, min(held, max(short, self._min_tail)) if kind == "tails" else held)
            lost += [segment] if kind != "redundant" else []
        return lost

    def _host_victims(self, segments: Iterable[Segment], rank: int) -> list[tuple[str, Segment]]:
        """Segments whose host copy may be given up for somebody of that rank, in order, and as what."""
        kinds: dict[str, list[Segment]] = {"redundant": [], "idle": [], "tails": []}
        for segment in segments:
            kind = self._kind(segment, rank)
            if kind is not None:
                kinds[kind].append(segment)
        kinds["redundant"].sort(key=self._blocks_per_group)
        for kind in ("idle", "tails"):
            kinds[kind].sort(key=self.position, reverse=True)
        return [(kind, segment) for kind, found in kinds.items() for segment in found]

    def _kind(self, segment: Segment, rank: int) -> str | None:
        """As what the segment's host copy may be given up for somebody of that rank: a field of `GivenUp`, or None."""
        num_blocks = self._host.num_blocks(segment.segment_id)
        if segment.job is not None or not num_blocks:
            return None
        if segment.resident:  # the device has all of it, and keeps it once every holder is settled there
            return None if segment.awaited else "redundant"
        if self._device.valid_len(segment.segment_id) > self._host.valid_len(segment.segment_id):
            return "redundant"  # a swap-out has failed
        if segment.idle:
            return "idle"
        # Of a sealed segment no part may go: what lies behind it would be of no use.
        tail = segment.num_tokens is None and num_blocks >= self._min_tail
        return "tails" if tail and (rank < 0 or self.position(segment)[0] > rank) else None

    def _give_up(self, kind: str, segment: Segment, num_blocks: int) -> None:
        """Cut that many host blocks off its end; what the device has of a clean one goes with them."""
        kept = (self._host.num_blocks(segment.segment_id) - num_blocks) * self._host.block_size
        if kind != "redundant":  # what is left of it on the device will not be backed by the host
            self._device.cut(segment.segment_id, kept)
        self._host.cut(segment.segment_id, kept)
        self.given_up = replace(self.given_up, **{kind: getattr(self.given_up, kind) + num_blocks})

    def _blocks_per_group(self, segment: Segment) -> float:
        return self._host.num_blocks(segment.segment_id) / len(self._host.allocator.groups(segment.segment_id))

    def _check(self, tier: Tier, num_blocks: int, reclaimable: int) -> None:
        if num_blocks > tier.num_free + reclaimable:
            total = tier.allocator.num_blocks
            raise OutOfBlocksError(
                f"need {num_blocks} blocks, {tier.num_free} of {total} are free and {reclaimable} can be reclaimed"
            )

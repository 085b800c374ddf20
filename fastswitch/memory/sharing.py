"""Who reads which segment: forks, and what becomes of a segment that somebody reads no longer.

Ours. Nothing is copied: a fork seals whole blocks and adds a reader, on both tiers at once. Readers of one segment
are independent of each other, so it may lose the only copy that was kept for one of them: then all who relied on it
have lost their KV from there on, and compute it again, each for itself.
Invariants, asserted by `Sharing.check_invariants`:
1. A segment that somebody reads is whole on one tier at least, if it is sealed.
2. One that a resident request without a job reads is whole on the device, which has all that the host has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from fastswitch.memory.roster import Roster
from fastswitch.memory.segment import Holder, Segment
from fastswitch.memory.tier import Tier

__all__ = ["Sharing"]


class Sharing:
    """Adds readers to segments and takes them away.

    Args:
        roster: the requests.
        device: the device's copies.
        host: the host's copies.
    """

    def __init__(self, roster: Roster, device: Tier, host: Tier) -> None:
        self._roster = roster
        self._device = device
        self._host = host

    def valid_len(self, holder: Holder) -> int:
        """Tokens of the request, from its first on, that are right on one tier at least."""
        return holder.shared_len + max(tier.valid_len(holder.own.segment_id) for tier in (self._device, self._host))

    def fork(self, parent: Holder, new_request_id: Hashable, num_tokens: int) -> Holder:
        """A new request that reads the parent's first ``num_tokens`` tokens, as far as they fill whole blocks.

        Raises:
            ValueError: if it is known already, or a copy of the segment to be cut is under way.
        """
        self._roster.expect_unknown(new_request_id)
        child = self._roster.add(new_request_id, self.seal(parent, num_tokens))
        child.resident = parent.resident
        return child

    def seal(self, holder: Holder, num_tokens: int) -> list[Segment]:
        """The segments of the holder's first whole blocks, the last one cut so that they end there.

        Raises:
            ValueError: if a copy of the segment to be cut is under way; nothing changed.
        """
        block_size = self._device.block_size
        left = num_tokens // block_size * block_size
        sealed = []
        for segment in holder.segments:
            if not left:
                break
            if segment.num_tokens is None or segment.num_tokens > left:
                tail = self._roster.split(segment, left)
                for tier in (self._device, self._host):
                    tier.split(segment.segment_id, left // block_size, tail.segment_id)
            sealed.append(segment)
            left -= segment.num_tokens or left
        return sealed

    def let_go(self, holder: Holder, segments: Iterable[Segment]) -> None:
        """The holder reads these no longer."""
        gone = tuple(segments)
        self._roster.leave(holder, gone)
        for segment in gone:
            self.settle(segment)

    def forget(self, holder: Holder) -> None:
        """The holder reads nothing but a new, empty segment of its own."""
        self.let_go(holder, holder.segments)
        self._roster.take_new(holder)

    def settle(self, segment: Segment) -> None:
        """Free what nobody reads; give up on the device what is evicted and not on the host. Nothing during a job."""
        if segment.job is not None or segment.segment_id not in self._roster.segments:
            return  # held up, or gone already: its loss let go of what lay behind it
        device_len, host_len = (tier.valid_len(segment.segment_id) for tier in (self._device, self._host))
        if not segment.holders:
            self._device.cut(segment.segment_id, 0)
            self._host.cut(segment.segment_id, 0)
            self._roster.forget(segment)
        elif device_len > host_len and not segment.resident:
            # Neither wanted there nor clean: nothing would ever take its blocks back.
            self._device.cut(segment.segment_id, host_len)
            self.shed_lost([segment])

    def shed_lost(self, segments: Iterable[Segment]) -> None:
        """Whoever reads a segment that is whole on neither tier any more goes on without it and what lies behind it."""
        for segment in segments:
            valid_len = max(tier.valid_len(segment.segment_id) for tier in (self._device, self._host))
            if valid_len >= (segment.num_tokens or 0):
                continue
            for holder in tuple(segment.holders):
                self.let_go(holder, holder.segments[holder.segments.index(segment) :])
                self._roster.take_new(holder)

    def check_invariants(self) -> None:
        """Assert the module's invariants.

        Raises:
            AssertionError: if somebody reads what is not there, which is a bug of ours.
        """
        for segment_id, segment in self._roster.segments.items():
            device_len, host_len = (tier.valid_len(segment_id) for tier in (self._device, self._host))
            whole = segment.num_tokens or 0
            lost = max(device_len, host_len) < whole
            assert not (lost and segment.holders), f"{segment_id!r} is lost, and {segment.holders} read it"
            settled = any(holder.resident and holder.job is None for holder in segment.holders)
            there = device_len >= max(host_len, whole)
            assert there or not settled, f"{segment_id!r} is read on the device, and not whole there"

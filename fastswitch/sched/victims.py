"""Whom to push out, of those who may be.

Ours. Idle conversations go before active ones whatever either costs: an idle one keeps nobody waiting, an active one
loses time at once. Among active ones rank decides first: who could take its room back from one that stays would do so
at the next decision, and both would have moved for nothing. What is left to choose among are *peers*: idle ones, and
active ones of which none may push the lowest-ranked out. With `Hysteresis` those are whole levels; without it, where a
ranker always prefers one of two, each active one is its own only peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol

from fastswitch.sched.view import RequestView

__all__ = ["LeastBytes", "LowestRank", "VictimChoice"]

Blocks = Callable[[RequestView], int]


class VictimChoice(Protocol):
    """Whom to push out."""

    def choose(
        self, candidates: Iterable[RequestView], num_blocks: int, dirty_blocks: Blocks
    ) -> Sequence[RequestView] | None:
        """Those who leave, in this order, so that ``num_blocks`` device blocks become free; None if all do not suffice.

        Args:
            candidates: who may be pushed out, the lowest first: idle ones, longest idle first, then active ones. Walked
                at most once; each step asks the ranker.
            num_blocks: positive.
            dirty_blocks: blocks that a candidate's eviction has to copy; costs a look at the manager the first time.
        """


class LowestRank:
    """The lowest-ranked first, as many as are needed. O(those that leave)."""

    def choose(
        self,
        candidates: Iterable[RequestView],
        num_blocks: int,
        dirty_blocks: Blocks,  # noqa: ARG002
    ) -> Sequence[RequestView] | None:
        """The lowest ones that hold enough together."""
        return _first(candidates, num_blocks)


class LeastBytes:
    """Of peers those who free enough with the fewest blocks to copy now; a clean one costs nothing.

    O(n log n) in the peers that are looked at. The cheapest set of all is as hard to find as any knapsack; taken is the
    best of three: by blocks to copy for each block freed, the cheapest that is enough alone, and the lowest-ranked
    ones. So it never copies more than `LowestRank` for one claim.

    Args:
        may_preempt: ``(challenger, holder)``: the ranker's word.
    """

    def __init__(self, may_preempt: Callable[[RequestView, RequestView], bool]) -> None:
        self._may_preempt = may_preempt

    def choose(
        self, candidates: Iterable[RequestView], num_blocks: int, dirty_blocks: Blocks
    ) -> Sequence[RequestView] | None:
        """Whole groups of peers, the lowest first, while they do not suffice; then the cheapest of the next."""
        chosen: list[RequestView] = []
        short = num_blocks
        for peers in self._groups(candidates):
            held = sum(peer.device_blocks for peer in peers)
            if held >= short:
                chosen += _cheapest(peers, short, dirty_blocks)
                return _needed(chosen, num_blocks, dirty_blocks)
            chosen += peers
            short -= held
        return None

    def _groups(self, candidates: Iterable[RequestView]) -> Iterator[list[RequestView]]:
        group: list[RequestView] = []
        for candidate in candidates:
            if group and not self._is_peer(candidate, group[0]):
                yield group
                group = []
            group.append(candidate)
        if group:
            yield group

    def _is_peer(self, candidate: RequestView, lowest: RequestView) -> bool:
        if candidate.idle_since is not None or lowest.idle_since is not None:
            return candidate.idle_since is not None and lowest.idle_since is not None
        return not self._may_preempt(candidate, lowest)


def _cheapest(peers: Sequence[RequestView], num_blocks: int, dirty_blocks: Blocks) -> Sequence[RequestView]:
    """Of peers, lowest first, that hold enough together: a set that does, and has little to copy."""
    by_ratio = sorted(peers, key=lambda peer: dirty_blocks(peer) / max(1, peer.device_blocks))
    enough_alone = [peer for peer in peers if peer.device_blocks >= num_blocks]
    sets = [_first(peers, num_blocks), _needed(_first(by_ratio, num_blocks) or [], num_blocks, dirty_blocks)]
    sets += [[min(enough_alone, key=dirty_blocks)]] if enough_alone else []
    return min((each for each in sets if each), key=lambda each: sum(map(dirty_blocks, each)))


def _first(candidates: Iterable[RequestView], num_blocks: int) -> list[RequestView] | None:
    """The first that hold enough together; None if all do not."""
    chosen: list[RequestView] = []
    for candidate in candidates:
        chosen.append(candidate)
        num_blocks -= candidate.device_blocks
        if num_blocks <= 0:
            return chosen
    return None


def _needed(chosen: Sequence[RequestView], num_blocks: int, dirty_blocks: Blocks) -> list[RequestView]:
    """Without those that the others make superfluous, the dirtiest first; active ones before idle ones."""
    spare = sum(map(attrgetter("device_blocks"), chosen)) - num_blocks
    staying = set()
    for each in sorted(chosen, key=lambda each: (each.idle_since is not None, -dirty_blocks(each))):
        if each.device_blocks <= spare:
            spare -= each.device_blocks
            staying.add(each.request_id)
    return [each for each in chosen if each.request_id not in staying]

"""Whom to push out, of those who may be.

Ours. Idle conversations go before active ones whatever either costs: an idle one keeps nobody waiting, an active one
loses time at once. Among active ones rank decides first: who could take its room back from one that stays would do so
at the next decision, and both would have moved for nothing. What is left to choose among are *peers*: idle ones, and
active ones of which none may push the lowest-ranked out. With `Hysteresis` those are whole levels; without it, where a
ranker always prefers one of two, each active one is its own only peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from fastswitch.sched.view import RequestView

__all__ = ["LeastBytes", "LowestRank", "VictimChoice"]

Blocks = Callable[[RequestView], int]

MOST_PEERS = 8  # looked at beyond those that are needed: a decision may push 64 out


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
    """The lowest-ranked first, as many as are needed. O(those that leave).

    >>> from types import SimpleNamespace as Request
    >>> candidates = [Request(request_id=i, device_blocks=blocks) for i, blocks in enumerate((2, 3, 4))]
    >>> [victim.request_id for victim in LowestRank().choose(candidates, 4, dirty_blocks=None)]
    [0, 1]
    """

    def choose(
        self,
        candidates: Iterable[RequestView],
        num_blocks: int,
        dirty_blocks: Blocks,  # noqa: ARG002
    ) -> Sequence[RequestView] | None:
        """The lowest ones that hold enough together."""
        chosen: list[RequestView] = []
        for candidate in candidates:
            chosen.append(candidate)
            num_blocks -= candidate.device_blocks
            if num_blocks <= 0:
                return chosen
        return None


class LeastBytes:
    """Of peers those who free enough with the fewest blocks to copy now; a clean one costs nothing.

    The cheapest set of all is as hard to find as any knapsack; taken is the best of three: by blocks to copy for each
    block freed, the cheapest that is enough alone, and the lowest-ranked ones. So it never copies more than
    `LowestRank` for one claim. O(those that leave + 16), so that a decision that pushes many out stays one.

    Args:
        may_preempt: ``(challenger, holder)``: the ranker's word.

    >>> from types import SimpleNamespace as Request
    >>> dirty, clean = (Request(request_id=i, device_blocks=4, dirty=4 - 4 * i, idle_since=None) for i in range(2))
    >>> choice = LeastBytes(may_preempt=lambda challenger, holder: False)
    >>> [victim.request_id for victim in choice.choose([dirty, clean], 4, lambda victim: victim.dirty)]
    [1]
    """

    def __init__(self, may_preempt: Callable[[RequestView, RequestView], bool]) -> None:
        self._may_preempt = may_preempt

    def choose(
        self, candidates: Iterable[RequestView], num_blocks: int, dirty_blocks: Blocks
    ) -> Sequence[RequestView] | None:
        """Whole groups of peers, the lowest first, while they do not suffice; then the cheapest of the next."""
        chosen: list[RequestView] = []
        peers: list[RequestView] = []
        held = 0  # blocks, of these peers
        short = num_blocks
        for candidate in candidates:
            if peers and not self._is_peer(candidate, peers[0]):
                if held >= short:
                    break
                chosen += peers
                short -= held
                peers, held = [], 0
            peers.append(candidate)
            held += candidate.device_blocks
            if held >= short and len(peers) >= MOST_PEERS:
                break
        if held < short:
            return None
        cheapest = _cheapest(peers, short, dirty_blocks)
        return _needed([*chosen, *cheapest], num_blocks, dirty_blocks) if chosen else cheapest

    def _is_peer(self, candidate: RequestView, lowest: RequestView) -> bool:
        if candidate.idle_since is not None or lowest.idle_since is not None:
            return candidate.idle_since is not None and lowest.idle_since is not None
        return not self._may_preempt(candidate, lowest)


def _cheapest(peers: Sequence[RequestView], num_blocks: int, dirty_blocks: Blocks) -> Sequence[RequestView]:
    """Of peers, lowest first, that hold enough together: a set that does, and has little to copy."""
    lowest = _needed(_first(peers, num_blocks), num_blocks, dirty_blocks)
    best, least = lowest, sum(map(dirty_blocks, lowest))
    if not least or len(peers) == len(lowest):
        return best
    ratios = [dirty_blocks(peer) / (peer.device_blocks or 1) for peer in peers]
    by_ratio = [peers[i] for i in sorted(range(len(peers)), key=ratios.__getitem__)]
    enough_alone = [peer for peer in peers if peer.device_blocks >= num_blocks]
    others = [_needed(_first(by_ratio, num_blocks), num_blocks, dirty_blocks)]
    others += [[min(enough_alone, key=dirty_blocks)]] if enough_alone else []
    for each in others:
        copied = sum(map(dirty_blocks, each))
        if copied < least:
            best, least = each, copied
    return best


def _first(candidates: Sequence[RequestView], num_blocks: int) -> list[RequestView]:
    """The first that hold enough together, which all do."""
    num_chosen = 0
    while num_blocks > 0:
        num_blocks -= candidates[num_chosen].device_blocks
        num_chosen += 1
    return list(candidates[:num_chosen])


def _needed(chosen: Sequence[RequestView], num_blocks: int, dirty_blocks: Blocks) -> list[RequestView]:
    """Without those that the others make superfluous, the dirtiest first; active ones before idle ones."""
    spare = sum(each.device_blocks for each in chosen) - num_blocks
    if len(chosen) == 1 or all(each.device_blocks > spare for each in chosen):
        return list(chosen)
    staying = set()
    for each in sorted(chosen, key=lambda each: (each.idle_since is not None, -dirty_blocks(each))):
        if each.device_blocks <= spare:
            spare -= each.device_blocks
            staying.add(each.request_id)
    return [each for each in chosen if each.request_id not in staying]

"""Who holds device memory after this step: the residency decision.

Ours. One walk over the requests, best first, with a ledger of the room: blocks that can be had *now* (free, or clean)
and blocks that can be had *soon* (a copy out must land first). Rules, learned from other engines' bugs:

1. room = free + clean + vacating - what better-ranked requests claim: a lower rank never takes blocks that are being
   vacated for a higher one;
2. a waiting request may preempt a running one; idle conversations go first, longest idle first, then the lowest rank;
3. who came in stays until it has made a productive step; an idle one has none to make;
4. who cannot grow sits out, and the lowest-ranked unprotected resident is evicted, be it the one that cannot grow;
5. the first request that finds no room, even with everyone below it pushed out, blocks admission behind it; residents
   behind it stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastswitch.sched.roles import EvictionWay, Evictor
from fastswitch.sched.view import PoolView, RequestState, RequestView

__all__ = ["Eviction", "Placement", "Residency"]


@dataclass(frozen=True, slots=True)
class Eviction:
    """One request leaves the device, and how."""

    request_id: int
    way: EvictionWay


@dataclass(frozen=True, slots=True)
class Placement:
    """One step's residency decision; request ids throughout.

    Attributes:
        order: everyone, best first: those with something to compute, then idle ones, longest idle last.
        evictions: who leaves.
        swap_ins: evicted requests whose room can be had now, best first.
        admissions: waiting requests whose room can be had now, best first.
        sitting_out: residents that cannot grow yet.
        unplaced: requests that want memory and have to wait for it.
    """

    order: tuple[int, ...]
    evictions: tuple[Eviction, ...]
    swap_ins: tuple[int, ...]
    admissions: tuple[int, ...]
    sitting_out: frozenset[int]
    unplaced: tuple[int, ...]


class Residency:
    """Decides one placement; made for one step and thrown away.

    Args:
        ranked: requests with something to compute, best first.
        idle: idle conversations, longest idle last.
        pools: room by kind.
        may_preempt: ``(challenger, holder)``: whether the ranker lets one push the other out.
        evictor: what happens to a victim.
    """

    def __init__(
        self,
        ranked: Sequence[RequestView],
        idle: Sequence[RequestView],
        pools: PoolView,
        may_preempt: Callable[[RequestView, RequestView], bool],
        evictor: Evictor,
    ) -> None:
        self._ranked = ranked
        self._idle = idle
        self._may_preempt = may_preempt
        self._evictor = evictor
        self._now = pools.free + pools.clean
        self._soon = pools.vacating
        self._host_free = pools.host_free
        self._victims = [request for request in (*ranked, *idle) if _may_leave(request)]  # the next victim is the last
        self._passed = 0  # victims that the walk has passed: they rank above whoever comes now
        self._blocked = False
        self._evictions: list[Eviction] = []
        self._swap_ins: list[int] = []
        self._admissions: list[int] = []
        self._sitting_out: list[int] = []
        self._unplaced: list[int] = []

    def decide(self) -> Placement:
        """Walk once, best first. O(n) when nobody is pushed out, else O(n x victims)."""
        evicted: set[int] = set()
        for request in self._ranked:
            if request.request_id in evicted:
                continue
            if request.state is RequestState.RUNNING:
                self._grow(request)
            elif request.state in (RequestState.WAITING, RequestState.SWAPPED):
                self._bring_in(request)
            elif request.state is RequestState.SWAPPING_OUT:
                self._expect_back(request)
            evicted.update(eviction.request_id for eviction in self._evictions[len(evicted) :])
        return Placement(
            order=tuple(request.request_id for request in (*self._ranked, *self._idle)),
            evictions=tuple(self._evictions),
            swap_ins=tuple(self._swap_ins),
            admissions=tuple(self._admissions),
            sitting_out=frozenset(self._sitting_out),
            unplaced=tuple(self._unplaced),
        )

    def _grow(self, request: RequestView) -> None:
        need = request.blocks_needed
        found = self._make_room(request, need)
        if not (found and self._claim(need)):
            self._sitting_out.append(request.request_id)
        if not found:
            self._blocked = True
            if self._victims[-1:] == [request]:
                self._evict(request)
                return
        if self._passed < len(self._victims) and self._victims[self._passed] is request:
            self._passed += 1

    def _bring_in(self, request: RequestView) -> None:
        need = request.blocks_needed + request.device_blocks  # its own clean blocks are part of the room
        self._blocked = self._blocked or not self._make_room(request, need)
        if self._blocked or not self._claim(need):
            self._unplaced.append(request.request_id)
        elif request.state is RequestState.SWAPPED:
            self._swap_ins.append(request.request_id)
        else:
            self._admissions.append(request.request_id)

    def _expect_back(self, request: RequestView) -> None:
        """Its rank rose while it is copied out: nobody below takes the blocks that it leaves and will want again."""
        self._unplaced.append(request.request_id)
        if not self._blocked:
            kept = min(request.device_blocks, self._soon)
            self._soon -= kept
            lacking = request.device_blocks - kept + request.blocks_needed
            self._blocked = lacking > self._now + self._soon
            if not self._blocked:
                self._claim(lacking)

    def _make_room(self, request: RequestView, need: int) -> bool:
        """Push out as few as needed, lowest first, so that ``need`` blocks are there now or soon; or nobody at all."""
        short = need - self._now - self._soon
        if short <= 0:
            return True
        lower = [v for v in self._victims[self._passed :] if v is not request and self._may_push_out(request, v)]
        if sum(victim.device_blocks for victim in lower) < short:
            return False
        while need > self._now + self._soon:
            self._evict(lower.pop())
        return True

    def _may_push_out(self, challenger: RequestView, holder: RequestView) -> bool:
        return holder.idle_since is not None or self._may_preempt(challenger, holder)

    def _evict(self, victim: RequestView) -> None:
        # The room counts a resident's own host copy, which its swap-out adds to and so cannot have.
        # Nor is there less than none: better-ranked victims may have been promised a part of that copy.
        host_room = max(0, self._host_free - victim.host_blocks)
        way = self._evictor.choose(victim, host_room)
        self._evictions.append(Eviction(victim.request_id, way))
        self._victims.remove(victim)
        if way is EvictionWay.SWAP_OUT and victim.dirty_blocks:
            self._soon += victim.device_blocks
            self._host_free = host_room - victim.host_blocks_needed
        else:
            self._now += victim.device_blocks

    def _claim(self, num_blocks: int) -> bool:
        """Take the blocks out of the room; whether they can be had now."""
        in_hand = min(num_blocks, self._now)
        self._now -= in_hand
        self._soon -= num_blocks - in_hand
        return in_hand == num_blocks


def _may_leave(request: RequestView) -> bool:
    resident = request.state in (RequestState.RUNNING, RequestState.IDLE)
    protected = request.protected and request.idle_since is None
    return resident and not protected and request.device_blocks > 0

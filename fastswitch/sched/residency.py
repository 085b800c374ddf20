"""Who holds device memory after this step: the residency decision.

Ours. One walk over the requests, best first, with a ledger of the room: blocks that can be had *now* (free, or clean)
and blocks that can be had *soon* (a copy out must land first). Rules, learned from other engines' bugs:

1. room = free + clean + vacating - what better-ranked requests claim: a lower rank never takes blocks that are being
   vacated for a higher one;
2. a waiting request may preempt a running one; idle conversations go first, then active ones, and which of them is the
   victim choice's word (`victims`): by default longest idle first, then the lowest rank;
3. who came in stays until it has made a productive step; an idle one has none to make;
4. who cannot grow sits out, and the lowest-ranked unprotected resident is evicted, be it the one that cannot grow;
5. the first request that finds no room, even with everyone below it pushed out, blocks admission behind it; residents
   behind it stay;
6. so does the first whose return would only stand in the queue for the link: nobody is pushed out for it yet;
7. and the first one when enough were pushed out and brought back for one iteration (``max_switches``);
8. who returns with something to copy need not wait until a victim's copy has landed: its own may come after that one.

So only who is on the device is looked at behind it, however many wait.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from fastswitch.sched.placement import Eviction, Placement
from fastswitch.sched.ranking import Insiders, Ranking
from fastswitch.sched.roles import EvictionWay, Evictor
from fastswitch.sched.victims import VictimChoice
from fastswitch.sched.view import RequestState, RequestView, Room

__all__ = ["Residency"]


class Residency:
    """Decides one placement; made for one step and thrown away.

    Args:
        ranking: everyone, best first.
        insiders: those of them that are on the device.
        room: blocks by what can be done with them.
        may_preempt: ``(challenger, holder)``: whether the ranker lets one push the other out.
        evictor: what happens to a victim.
        choice: who of those that may be pushed out is.
        max_switches: nobody is brought in once so many have left or come.
    """

    def __init__(
        self,
        ranking: Ranking,
        insiders: Insiders,
        room: Room,
        may_preempt: Callable[[RequestView, RequestView], bool],
        evictor: Evictor,
        choice: VictimChoice,
        max_switches: int,
    ) -> None:
        self._ranking = ranking
        self._insiders = insiders
        self._may_preempt = may_preempt
        self._evictor = evictor
        self._choice = choice
        self._max_switches = max_switches
        self._room = room
        self._now = room.free + room.clean
        self._soon = room.vacating
        self._copy_in = room.copy_in
        self._host_free: int | None = None  # until an eviction asks: it may cost more to know than all the rest
        residents = (*[request for _, request in insiders.active], *insiders.idle)
        self._victims = [request for request in residents if _may_leave(request)]  # the lowest is the last
        self._dirty: dict[int, int] = {}  # request_id |-> blocks that its eviction copies, of those that were asked
        self._num_walked = 0
        self._passed = 0  # victims that the walk has passed: they rank above whoever comes now
        self._blocked = False
        self._evictions: list[Eviction] = []
        self._evicted: set[int] = set()
        self._swap_ins: list[int] = []
        self._early: list[int] = []
        self._admissions: list[int] = []
        self._sitting_out: list[int] = []
        self._passed_over: list[int] = []

    def decide(self) -> Placement:
        """Walk once, best first; n on the device or in front of the first that finds no room.

        O(n) when nobody is pushed out, else O(n x victims).
        """
        for position, request in self._insiders.active:
            if self._num_walked < position and not self._blocked:
                self._bring_in_up_to(position)
            if not self._blocked:
                self._num_walked = position + 1
            if request.request_id in self._evicted:
                continue
            state = request.state
            if state is RequestState.RUNNING:
                self._grow(request)
            elif state is RequestState.SWAPPING_OUT and not self._blocked:
                self._expect_back(request)
        self._bring_in_up_to(len(self._ranking.active))
        return Placement(
            order=self._ranking.order,
            num_active=len(self._ranking.active),
            evictions=tuple(self._evictions),
            swap_ins=tuple(self._swap_ins),
            early=tuple(self._early),
            admissions=tuple(self._admissions),
            sitting_out=frozenset(self._sitting_out),
            passed_over=tuple(self._passed_over),
            num_walked=self._num_walked,
            settled=self._insiders.settled,
        )

    def _bring_in_up_to(self, position: int) -> None:
        """Give the room to those who are outside in front of that position, until one of them finds none."""
        while self._num_walked < position and not self._blocked:
            self._bring_in(self._ranking.active[self._num_walked])
            self._num_walked += not self._blocked

    def _grow(self, request: RequestView) -> None:
        need = request.blocks_needed
        if need:
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
        if not (self._may_switch() and self._may_copy(request) and self._make_room(request, need)):
            self._blocked = True
        elif not self._claim(need) or request.pinned:
            copies = not request.pinned and request.state is RequestState.SWAPPED and request.missing_blocks
            (self._early if copies else self._passed_over).append(request.request_id)
        elif request.state is RequestState.SWAPPED:
            self._swap_ins.append(request.request_id)
        else:
            self._admissions.append(request.request_id)

    def _may_switch(self) -> bool:
        return len(self._evictions) + len(self._swap_ins) + len(self._early) < self._max_switches

    def _may_copy(self, request: RequestView) -> bool:
        """Whether the link has time for the request's return, if it needs any; then that is promised to it."""
        if self._copy_in is None or request.state is not RequestState.SWAPPED or not request.missing_blocks:
            return True
        if self._copy_in <= 0:
            return False
        self._copy_in -= request.missing_blocks
        return True

    def _expect_back(self, request: RequestView) -> None:
        """Its rank rose while it is copied out: nobody below takes the blocks that it leaves and will want again."""
        self._passed_over.append(request.request_id)
        kept = min(request.device_blocks, self._soon)
        self._soon -= kept
        lacking = request.device_blocks - kept + request.blocks_needed
        self._blocked = lacking > self._now + self._soon
        if not self._blocked:
            self._claim(lacking)

    def _make_room(self, request: RequestView, need: int) -> bool:
        """Push out no more than needed, so that ``need`` blocks are there now or soon; or nobody at all."""
        short = need - self._now - self._soon
        if short <= 0:
            return True
        lowest_first = islice(reversed(self._victims), len(self._victims) - self._passed)
        candidates = (v for v in lowest_first if v is not request and self._may_push_out(request, v))
        chosen = self._choice.choose(candidates, short, self._dirty_blocks)
        for victim in chosen or ():
            self._evict(victim)
        return chosen is not None

    def _dirty_blocks(self, victim: RequestView) -> int:
        dirty = self._dirty.get(victim.request_id)
        if dirty is None:
            dirty = self._dirty[victim.request_id] = victim.dirty_blocks
        return dirty

    def _may_push_out(self, challenger: RequestView, holder: RequestView) -> bool:
        return holder.idle_since is not None or self._may_preempt(challenger, holder)

    def _evict(self, victim: RequestView) -> None:
        # The room counts a resident's own host copy, which its swap-out adds to and so cannot have.
        # Nor is there less than none: better-ranked victims may have been promised a part of that copy.
        host_free = self._room.host_free if self._host_free is None else self._host_free
        host_room = max(0, host_free - victim.host_blocks)
        way = self._evictor.choose(victim, host_room, self._num_left_waiting())
        self._evictions.append(Eviction(victim.request_id, way))
        self._evicted.add(victim.request_id)
        self._victims.remove(victim)
        if way is EvictionWay.SWAP_OUT and self._dirty_blocks(victim):
            self._soon += victim.device_blocks
            self._host_free = host_room - victim.host_blocks_needed
        else:
            self._now += victim.device_blocks

    def _num_left_waiting(self) -> int:
        """Requests outside that will wait on when the one that the room is made for has it."""
        outside = len(self._ranking.active) - len(self._insiders.settled)
        placed = len(self._swap_ins) + len(self._early) + len(self._admissions) + len(self._passed_over)
        return max(0, outside - placed - 1)

    def _claim(self, num_blocks: int) -> bool:
        """Take the blocks out of the room; whether they can be had now."""
        in_hand = min(num_blocks, self._now)
        self._now -= in_hand
        self._soon -= num_blocks - in_hand
        return in_hand == num_blocks


def _may_leave(request: RequestView) -> bool:
    if request.pinned or (request.protected and request.idle_since is None):
        return False
    return request.state is RequestState.RUNNING or (request.state is RequestState.IDLE and request.device_blocks > 0)

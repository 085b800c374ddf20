"""Who is on the device: asks the scheduler when its last answer may be stale, and enacts what it says.

Ours. Thousands may wait, and most steps change nothing for them. So everybody is ranked anew only when somebody came,
went or changed rank, and looked at for being on the device only when somebody moved. In between, that a request which
runs must grow changes the room alone: then the decision is made again over those on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastswitch.engine.conversations import Conversations
from fastswitch.engine.decision_log import DecisionLog
from fastswitch.engine.request import Request
from fastswitch.engine.room import RoomNow
from fastswitch.engine.switcher import Switcher
from fastswitch.memory import OutOfBlocksError
from fastswitch.sched import EvictionWay, Insiders, Placement, Ranking, RequestState, Scheduler

__all__ = ["Placer"]

NOBODY = Ranking.of((), ())
NOTHING = Placement((), 0, (), (), (), (), frozenset(), (), 0, frozenset())


class Placer:
    """Keeps the device as the scheduler wants it.

    Args:
        scheduler: decides.
        switcher: enacts evictions and returns.
        conversations: the requests, and whether the last placement is stale.

    Attributes:
        placement: the last one.
        running: residents with something to compute, best first; right after ``look_around``.
        log: told what is enacted, if anybody wants to know.
    """

    def __init__(self, scheduler: Scheduler, switcher: Switcher, conversations: Conversations) -> None:
        self._scheduler = scheduler
        self._switcher = switcher
        self._kv = switcher.kv
        self._conversations = conversations
        self._ranking = NOBODY
        self._insiders = Insiders.of(NOBODY)
        self._unsettled = False  # what was enacted last may have left other room than the placement reckoned with
        self._early: tuple[int, ...] = ()  # of the placement, not enacted yet
        self.placement = NOTHING
        self.running: list[Request] = []
        self.log: DecisionLog | None = None

    def place(self) -> bool:
        """Place until the placement asks for nothing that changes the room at once; whether anybody moved."""
        if not self._is_stale():
            return False
        moved, self._conversations.changed = self._conversations.changed, False
        self._hold_suspended_off()
        self._rank()
        while True:
            if moved:
                self._insiders = Insiders.of(self._ranking)
            self.placement = self._scheduler.place_ranked(self._ranking, self._insiders, RoomNow(self._switcher))
            if not self._evict():
                break
            moved = True
        coming = (*self.placement.swap_ins, *self.placement.admissions)
        for request_id in coming:
            self._bring_in(request_id, early=False)
        self._early = self.placement.early
        self._unsettled = bool(self.placement.evictions or coming or self._early)
        return moved or self._unsettled

    @property
    def idle_residents(self) -> Sequence[Request]:
        """Conversations between two turns that are on the device, as they were placed last; longest idle last."""
        return self._conversations.of(request.request_id for request in self._insiders.idle)

    def idle_outside(self) -> Iterator[int]:
        """Ids of those that are not, as far as was known at the last placement; the latest first."""
        inside = {request.request_id for request in self._insiders.idle}
        return (request.request_id for request in self._ranking.idle if request.request_id not in inside)

    def look_around(self) -> None:
        """Somebody moved: see who runs now."""
        if self._unsettled or self._conversations.changed:  # else nobody moved since the placement
            self._insiders = Insiders.of(self._ranking)
        ids = [r.request_id for _, r in self._insiders.active if r.state is RequestState.RUNNING]
        self.running = self._conversations.of(ids)

    def grow(self) -> list[Request]:
        """The running requests that hold room for their known tokens, best first; growth is given in that order."""
        return [r for r in self.running if r.num_tokens <= r.room or self._grow_one(r)]

    def bring_in_early(self) -> None:
        """Let those come whose copies go behind the ones that vacate their room; after everybody else has theirs."""
        early, self._early = self._early, ()
        for request_id in early:
            if self._bring_in(request_id, early=True):
                self._conversations.changed = True

    def _bring_in(self, request_id: int, *, early: bool) -> bool:
        request = self._conversations.request(request_id)
        swapped = request.state is RequestState.SWAPPED
        came = self._switcher.bring_in(request, early=early)
        if came and self.log is not None:
            self.log.came_in(request_id, swapped=swapped)
        return came

    def _is_stale(self) -> bool:
        """Whether another placement could decide otherwise than the last one."""
        if self._conversations.changed:
            return True
        if not self.placement.leaves_waiting:
            return False
        # those who wait claim room, so who may grow is decided anew
        growing = any(request.num_tokens > request.room for request in self.running)
        return growing or self._unsettled

    def _rank(self) -> None:
        if self._conversations.reranked:
            self._conversations.reranked = False
            self._ranking = self._scheduler.rank(self._conversations.candidates())
            self._kv.prefer(self._ranking.order)

    def _evict(self) -> bool:
        """Enact the placement's evictions; whether one of them gave room at once."""
        at_once = False
        for eviction in self.placement.evictions:
            request = self._conversations.request(eviction.request_id)
            self._push_out(request, eviction.way)
            at_once = at_once or request.state is not RequestState.SWAPPING_OUT
        return self._switcher.poll() or at_once

    def _hold_suspended_off(self) -> None:
        for request in self._conversations.suspended:
            resident = request.state in (RequestState.RUNNING, RequestState.IDLE) and request.device_blocks
            if resident and not request.pinned:  # else when that copy has landed
                self._push_out(request, EvictionWay.SWAP_OUT)

    def _push_out(self, request: Request, way: EvictionWay) -> None:
        self._switcher.evict(request, way)
        if self.log is not None:
            # be it that it was to be swapped out; one that idles and was not dropped is swapped
            dropped = request.state in (RequestState.WAITING, RequestState.IDLE)
            self.log.evicted(request.request_id, EvictionWay.RECOMPUTE if dropped else way)

    def _grow_one(self, request: Request) -> bool:
        if request.request_id in self.placement.sitting_out:
            return False
        try:
            self._kv.grow(request.request_id, request.num_tokens)
        except OutOfBlocksError:
            self._conversations.changed = True  # ran short: place again
            return False
        request.take_stock()
        return True

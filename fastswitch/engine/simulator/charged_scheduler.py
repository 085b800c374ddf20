"""A scheduler whose decisions take time on a virtual clock.

Ours. A decision looks at every candidate once when the order is made, and at those on the device each time it is asked
who may have the room; while it does, no iteration runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastswitch.engine.clock import VirtualClock
from fastswitch.sched import Insiders, Placement, Ranking, RequestView, Room, Scheduler

__all__ = ["ChargedScheduler"]


class ChargedScheduler(Scheduler):
    """Decides as another scheduler does.

    Args:
        scheduler: whose roles it takes.
        clock: advanced by each decision.
        request_s: seconds for a request that is looked at.
    """

    def __init__(self, scheduler: Scheduler, clock: VirtualClock, request_s: float) -> None:
        roles = scheduler.ranker, scheduler.packer, scheduler.evictor, scheduler.accountant
        super().__init__(*roles, victims=scheduler.victims, max_switches=scheduler.max_switches)
        self._clock = clock
        self._request_s = request_s

    def rank(self, requests: Iterable[RequestView]) -> Ranking:
        """As the other one, and everybody was looked at."""
        ranking = super().rank(requests)
        self._clock.sleep(len(ranking.order) * self._request_s)
        return ranking

    def place_ranked(self, ranking: Ranking, insiders: Insiders, room: Room) -> Placement:
        """As the other one, and those on the device were looked at."""
        self._clock.sleep((len(insiders.active) + len(insiders.idle)) * self._request_s)
        return super().place_ranked(ranking, insiders, room)

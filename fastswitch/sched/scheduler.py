"""The scheduler: two decisions a step, each a value.

Ours. ``place`` decides residency (who holds device KV), ``pack`` decides compute (who gets tokens); so any packer
composes with any ranker. The scheduler enacts nothing: the engine does, and tells the accountant what was enacted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

from fastswitch.sched.accounting import accountant_for
from fastswitch.sched.placement import Placement
from fastswitch.sched.ranking import Insiders, Ranking
from fastswitch.sched.residency import Residency
from fastswitch.sched.roles import Accountant, Evictor, Packer, Ranker, SchedulerOutput
from fastswitch.sched.victims import LowestRank, VictimChoice
from fastswitch.sched.view import RequestView, Room

__all__ = ["Scheduler"]

MAX_SWITCHES = 64  # more would take the engine's thread longer than an iteration


class Scheduler:
    """Four roles and the choice of victims, each replaceable alone.

    Args:
        ranker: who deserves memory.
        packer: who gets tokens.
        evictor: what happens to a victim.
        accountant: charges for what was enacted. By default the ranker, or one that it wraps, if that ranks by what was
            served; else a `TokenAccountant`.
        victims: whom to push out, of those that the ranker lets go; the lowest-ranked by default.
        max_switches: of one iteration: once so many requests were pushed out or brought back, nobody else comes in.

    Raises:
        ValueError: if ``max_switches`` is not positive, or the ranker would not be told what was served.

    >>> from fastswitch.sched import FCFS, PoolView, PrefillFirst, SwapOut
    >>> scheduler = Scheduler(FCFS(), PrefillFirst(8192), SwapOut())
    >>> scheduler.place([], PoolView(free=100, clean=0, vacating=0, host_free=400)).admissions
    ()
    """

    def __init__(
        self,
        ranker: Ranker,
        packer: Packer,
        evictor: Evictor,
        accountant: Accountant | None = None,
        *,
        victims: VictimChoice | None = None,
        max_switches: int = MAX_SWITCHES,
    ) -> None:
        if max_switches < 1:
            raise ValueError(f"max_switches must be positive, got {max_switches}")
        self.ranker = ranker
        self.packer = packer
        self.evictor = evictor
        self.accountant = accountant_for(ranker, accountant)
        self.victims = victims or LowestRank()
        self.max_switches = max_switches

    def place(self, requests: Iterable[RequestView], room: Room) -> Placement:
        """Decide who holds device memory; ``requests`` are all unfinished ones, in any order."""
        ranking = self.rank(requests)
        return self.place_ranked(ranking, Insiders.of(ranking), room)

    def rank(self, requests: Iterable[RequestView]) -> Ranking:
        """Put all unfinished requests in order. Holds while nobody comes, goes, starts to idle or changes rank.

        Raises:
            ValueError: if the ranker's order is not of those that it was given, each once.
        """
        everybody = list(requests)
        active = [request for request in everybody if request.idle_since is None]
        idle = [(-r.idle_since, r.request_id, r) for r in everybody if r.idle_since is not None]
        longest_idle_last = [request for *_, request in sorted(idle, key=itemgetter(0, 1))]
        ranking = Ranking.of(self.ranker.order(active), longest_idle_last)
        if not len(ranking.order) == len(set(ranking.order)) == len(everybody):
            name, num_ranked = type(self.ranker).__name__, len(ranking.active)
            raise ValueError(
                f"order() of {name} must give back each of {len(active)} requests once, got {num_ranked}, "
                f"{len({request.request_id for request in ranking.active})} of them different"
            )
        return ranking

    def place_ranked(self, ranking: Ranking, insiders: Insiders, room: Room) -> Placement:
        """As ``place``, for who asks often: ``insiders`` holds while nobody's state changes."""
        parts = (self.ranker.may_preempt, self.evictor, self.victims, self.max_switches)
        return Residency(ranking, insiders, room, *parts).decide()

    def pack(self, ready: Sequence[RequestView]) -> SchedulerOutput:
        """Decide the iteration's tokens among the residents that hold room for them, best first."""
        return self.packer.pack(ready)

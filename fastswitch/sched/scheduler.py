"""The scheduler: two decisions a step, each a value.

Ours. ``place`` decides residency (who holds device KV), ``pack`` decides compute (who gets tokens); so any packer
composes with any ranker. The scheduler enacts nothing: the engine does, and tells the accountant what was enacted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastswitch.sched.placement import Placement, Residency
from fastswitch.sched.roles import Accountant, Evictor, Packer, Ranker, SchedulerOutput
from fastswitch.sched.view import PoolView, RequestView

__all__ = ["Scheduler"]


class Scheduler:
    """Four roles, each replaceable alone.

    Args:
        ranker: who deserves memory.
        packer: who gets tokens.
        evictor: what happens to a victim.
        accountant: charges for what was enacted.
    """

    def __init__(self, ranker: Ranker, packer: Packer, evictor: Evictor, accountant: Accountant) -> None:
        self.ranker = ranker
        self.packer = packer
        self.evictor = evictor
        self.accountant = accountant

    def place(self, requests: Iterable[RequestView], pools: PoolView) -> Placement:
        """Decide who holds device memory; ``requests`` are all unfinished ones, in any order."""
        active: list[RequestView] = []
        idle: list[tuple[float, int, RequestView]] = []
        for request in requests:
            if request.idle_since is None:
                active.append(request)
            else:
                idle.append((-request.idle_since, request.request_id, request))
        longest_idle_last = [request for *_, request in sorted(idle, key=lambda entry: entry[:2])]
        ranked = self.ranker.order(active)
        return Residency(ranked, longest_idle_last, pools, self.ranker.may_preempt, self.evictor).decide()

    def pack(self, ready: Sequence[RequestView]) -> SchedulerOutput:
        """Decide the iteration's tokens among the residents that hold room for them, best first."""
        return self.packer.pack(ready)

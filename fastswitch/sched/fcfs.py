"""First come, first served.

vLLM's default, and the order within a level of the other rankers.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from fastswitch.sched.roles import Ranker
from fastswitch.sched.view import RequestView

__all__ = ["FCFS"]


class FCFS(Ranker):
    """Ranks by the arrival of the turn, then by request id. A later turn never pushes an earlier one out.

    >>> from types import SimpleNamespace as Request
    >>> late, early = Request(request_id=0, arrival=2.0), Request(request_id=1, arrival=1.0)
    >>> [each.request_id for each in FCFS().order([late, early])], FCFS().may_preempt(late, early)
    ([1, 0], False)
    """

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """Earliest turn first. O(n log n)."""
        return sorted(sorted(requests, key=attrgetter("request_id")), key=attrgetter("arrival"))

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger`` came first: an evicted request takes its room back from those who came after it."""
        return (challenger.arrival, challenger.request_id) < (holder.arrival, holder.request_id)

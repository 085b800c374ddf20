"""Everyone in rank order, and who of them is on the device: what a residency decision walks over.

Ours. The two change at different times, so that a decision need not look at everybody: the order holds until somebody
comes, goes or changes rank, who is on the device until a copy is begun or has landed. Thousands who wait are looked at
when one of these happens, and not whenever a request grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from fastswitch.sched.view import RequestState, RequestView

__all__ = ["Insiders", "Ranking"]

OUTSIDE = (RequestState.WAITING, RequestState.SWAPPED)
RESIDENT = (RequestState.IDLE, RequestState.RUNNING)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Who deserves memory, best first.

    Attributes:
        active: requests with something to compute.
        idle: conversations between two turns, longest idle last; they rank behind all active ones.
        order: the ids of both.
    """

    active: Sequence[RequestView]
    idle: Sequence[RequestView]
    order: tuple[int, ...]

    @classmethod
    def of(cls, active: Sequence[RequestView], idle: Sequence[RequestView]) -> Ranking:
        """The ranking of these, which are in order."""
        return cls(active, idle, tuple(request.request_id for request in chain(active, idle)))


@dataclass(frozen=True, slots=True)
class Insiders:
    """Those of a ranking that hold device memory which is theirs for now.

    Attributes:
        active: (position, request) of active ones that are resident or on their way in or out, best first.
        idle: idle ones that are resident, longest idle last.
        settled: ids of the active ones that are resident or on their way in.
    """

    active: Sequence[tuple[int, RequestView]]
    idle: Sequence[RequestView]
    settled: frozenset[int]

    @classmethod
    def of(cls, ranking: Ranking) -> Insiders:
        """As they stand now, in O(everybody)."""
        active = [(i, request) for i, request in enumerate(ranking.active) if request.state not in OUTSIDE]
        idle = [request for request in ranking.idle if request.state in RESIDENT]
        leaving = RequestState.SWAPPING_OUT
        settled = frozenset(request.request_id for _, request in active if request.state is not leaving)
        return cls(active, idle, settled)

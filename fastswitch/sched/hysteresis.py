"""A threshold of advantage below which nobody is pushed out: a switch has a price, so a small gain is not worth one.

Ours. It narrows what any ranker allows and changes nothing else: order, levels and forecasts are the ranker's. Two
thresholds, because levels are not all that a ranker may go by:

- ``min_levels``: the challenger's level is so many better. 1 ends switches within a level, where only the arrival of
  the turn tells two apart.
- ``min_stay``: the holder has generated so many tokens since it came in. It generalises rule 3 (one productive step
  before it may leave) and fits every ranker.

Idle holders are not asked about and go at once. Who may not be pushed out still leaves by itself when it is the
lowest-ranked and cannot grow, so nobody can block the device for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastswitch.sched.roles import Ranker
from fastswitch.sched.view import RequestView

__all__ = ["Hysteresis"]


class Hysteresis(Ranker):
    """A ranker that lets nobody be pushed out for a small advantage.

    Args:
        ranker: whose order and levels hold.
        min_levels: levels by which a challenger must be better; one that has none counts as level 0.
        min_stay: tokens that a holder generates before it may be pushed out. That it has is seen at the next decision,
            at the latest when somebody grows.

    Raises:
        ValueError: if a threshold is negative.

    >>> from types import SimpleNamespace as Request
    >>> from fastswitch.sched.fcfs import FCFS
    >>> early = Request(request_id=0, arrival=1.0)
    >>> holders = [Request(request_id=1, arrival=2.0, tokens_since_placed=tokens) for tokens in (9, 10)]
    >>> [Hysteresis(FCFS(), min_stay=10).may_preempt(early, holder) for holder in holders]
    [False, True]
    """

    def __init__(self, ranker: Ranker, *, min_levels: int = 0, min_stay: int = 0) -> None:
        for name, value in (("min_levels", min_levels), ("min_stay", min_stay)):
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        self.ranker = ranker
        self.min_levels = min_levels
        self.min_stay = min_stay

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """The ranker's."""
        return self.ranker.order(requests)

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether the ranker allows it, and the advantage and the holder's stay reach their thresholds."""
        if holder.tokens_since_placed < self.min_stay:
            return False
        if self.min_levels and (holder.priority or 0) - (challenger.priority or 0) < self.min_levels:
            return False
        return self.ranker.may_preempt(challenger, holder)

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """The ranker's."""
        return self.ranker.new_levels(requests, executed_iterations)

    def forecast(self, requests: Sequence[RequestView], executed_iterations: int) -> list[RequestView] | None:
        """The ranker's."""
        return self.ranker.forecast(requests, executed_iterations)

    def is_due(self, executed_iterations: int) -> bool:
        """The ranker's."""
        return self.ranker.is_due(executed_iterations)

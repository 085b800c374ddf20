"""How long each turn has waited for service, in executed iterations; who has waited longest is known at once.

Ours. Turns are kept in order of their last service, so that nobody has to look at thousands to know that nobody has
waited too long. An accountant is not told the iteration's number, a ranker is: who was served is noted first, and dated
when the ranker is asked next, before anything else has happened.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastswitch.sched.view import RequestView

__all__ = ["Waits"]


class Waits:
    """Turns by their last service; each starts to wait when it arrives.

    >>> from types import SimpleNamespace
    >>> early, late = SimpleNamespace(request_id=7), SimpleNamespace(request_id=3)
    >>> waits = Waits()
    >>> waits.begin(early); waits.date(0); waits.begin(late); waits.date(5)
    >>> [request.request_id for request, _ in waits.longer_than(4, 10)]
    [7, 3]
    >>> waits.begin(early); waits.date(10)  # it was served in the tenth iteration
    >>> [request.request_id for request, _ in waits.longer_than(4, 10)]
    [3]
    """

    def __init__(self) -> None:
        self._since: dict[int, tuple[RequestView, int]] = {}  # request_id |-> it, iterations that had run; oldest first
        self._undated: dict[int, RequestView] = {}  # request_id |-> it: arrived or served since `date`

    def begin(self, request: RequestView) -> None:
        """Its wait begins now: it arrived, or was served. O(1)."""
        self._undated[request.request_id] = request

    def end(self, request_id: int) -> None:
        """It waits no longer; nothing if it does not. O(1)."""
        self._undated.pop(request_id, None)
        self._since.pop(request_id, None)

    def date(self, executed_iterations: int) -> None:
        """So many iterations had run when the waits began that were begun since the last call. O(their number)."""
        for request_id, request in self._undated.items():
            self._since.pop(request_id, None)
            self._since[request_id] = (request, executed_iterations)
        self._undated.clear()

    def longer_than(self, num_iterations: int, executed_iterations: int) -> Iterator[tuple[RequestView, int]]:
        """Those who have waited at least so many iterations, longest first, and since when. O(1) to the first."""
        for request, since in self._since.values():
            if since + num_iterations > executed_iterations:
                return
            yield request, since

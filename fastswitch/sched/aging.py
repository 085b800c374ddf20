"""Nobody waits for ever, whatever a ranker says: who was not served for too long comes before everybody.

Ours; the idea is that of every operating system. A turn has aged when it was given no token, and no part of its prompt,
for ``max_wait`` executed iterations. Then

1. it ranks before all who have not aged; among the aged whoever has waited longest is first;
2. it may push out all behind it; nobody who has not aged may push out anybody, so that those who come and go take
   neither the room that it is waiting for nor, with their prompts, its iterations;
3. it has aged until it is served: a token that it had before is no service (rule 1).

So a turn is served once at least in ``max_wait`` iterations and as many more as those need who had aged before it:
tests/engine/test_no_starvation.py says how many at most. No ranker helps where the *packer* leaves somebody out:
`PrefillFirst` lets decodes stand still for as long as there are prompts that fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastswitch.sched.accounting import accountant_for
from fastswitch.sched.roles import Accountant, Ranker
from fastswitch.sched.view import RequestView
from fastswitch.sched.waits import Waits

__all__ = ["Aging"]


class Aging(Ranker, Accountant):
    """A ranker that keeps another one from starving anybody; the accountant, too, since it must know who is served.

    A turn that its user suspended has aged when it comes back, if it was away for so long.

    Args:
        ranker: ranks those who have not aged.
        accountant: is told everything. By default the ranker, or one that it wraps, if that ranks by what was served;
            else a `TokenAccountant`.
        max_wait: executed iterations without service until a turn has aged, at least 1.

    Raises:
        ValueError: if ``max_wait`` is not positive, or the ranker would not be told what was served.

    >>> from types import SimpleNamespace as Request
    >>> from fastswitch.sched.fcfs import FCFS
    >>> early, late = (Request(request_id=i, client_id="a", arrival=float(i)) for i in range(2))
    >>> policy = Aging(FCFS(), max_wait=10)
    >>> for request in (early, late):
    ...     policy.arrived(request)
    >>> order = []
    >>> for iteration in range(12):  # the early one is served in each
    ...     _ = policy.is_due(iteration) and policy.new_levels([early, late], iteration)
    ...     order.append([each.request_id for each in policy.order([early, late])])
    ...     policy.charge(early, 0, 1)
    >>> order[0], order[-1], policy.may_preempt(late, early)
    ([0, 1], [1, 0], True)
    """

    def __init__(self, ranker: Ranker, accountant: Accountant | None = None, *, max_wait: int) -> None:
        if max_wait < 1:
            raise ValueError(f"max_wait must be at least 1 iteration, got {max_wait}")
        self.ranker = ranker
        self.accountant = accountant_for(ranker, accountant)
        self.max_wait = max_wait
        self._waits = Waits()  # of those who have not aged
        self._aged: dict[int, int] = {}  # request_id |-> since which iteration it waits
        self._contending: dict[int, int] = {}  # those of them that were ranked last: not who is suspended
        self._was_served = False  # somebody who had aged, and has not any more
        self._known: set[int] = set()  # request_ids that the ranker was asked about
        self._ranked: Sequence[RequestView] = ()  # in the order that the ranker made last

    # as accountant

    def arrived(self, request: RequestView) -> None:
        """Its wait begins."""
        self._waits.begin(request)
        self.accountant.arrived(request)

    def admitted(self, request: RequestView, num_prompt_tokens: int) -> None:
        """Nothing of its own: memory is no service."""
        self.accountant.admitted(request, num_prompt_tokens)

    def ended(self, request: RequestView) -> None:
        """It waits no longer."""
        self._waits.end(request.request_id)
        self._forget(request.request_id)
        self._known.discard(request.request_id)
        self.accountant.ended(request)

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """It was served, so its wait begins anew; not if what it was given was only computed again."""
        if num_prefill_tokens or num_decode_tokens:
            self._waits.begin(request)
            self._was_served |= self._forget(request.request_id)
        self.accountant.charge(request, num_prefill_tokens, num_decode_tokens)

    def suspended(self, request: RequestView) -> None:
        """Nothing of its own."""
        self.accountant.suspended(request)

    def resumed(self, request: RequestView) -> None:
        """Nothing of its own."""
        self.accountant.resumed(request)

    # as ranker

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """The aged by their wait, then everybody else as the ranker says. O(n) beside the ranker's."""
        self._contending = {r.request_id: self._aged[r.request_id] for r in requests if r.request_id in self._aged}
        ranked = self.ranker.order(requests)  # of all of them: it may go by who waits
        self._ranked = ranked
        if not self._contending:
            return ranked
        return [*_by_wait(requests, self._contending), *_without(ranked, self._contending)]

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger`` has aged, and ``holder`` has not or waits shorter; while nobody has, as ranked."""
        if not self._contending:
            return self.ranker.may_preempt(challenger, holder)
        since = self._contending.get(challenger.request_id)
        if since is None:
            return False
        other = self._contending.get(holder.request_id)
        return other is None or _wait_key(challenger, since) < _wait_key(holder, other)

    def is_due(self, executed_iterations: int) -> bool:
        """Whether somebody has aged or has been served, or the ranker wants to be asked. O(1) beside the ranker's."""
        self._waits.date(executed_iterations)
        ages = any(True for _ in self._waits.longer_than(self.max_wait, executed_iterations))
        return self.ranker.is_due(executed_iterations) or ages or self._was_served

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """The ranker's; ageing changes no level."""
        is_due, ranker_is_due = self.is_due(executed_iterations), self.ranker.is_due(executed_iterations)
        for request, since in list(self._waits.longer_than(self.max_wait, executed_iterations)):
            self._waits.end(request.request_id)
            self._aged[request.request_id] = since
        self._was_served = False
        asked = requests
        if not ranker_is_due:  # then it expects those whom it was not asked about before
            asked = [request for request in requests if request.request_id not in self._known]
        if is_due:  # these are all that there are
            self._known.clear()
        self._known.update(request.request_id for request in requests)
        return self.ranker.new_levels(asked, executed_iterations) if asked or ranker_is_due else {}

    def forecast(self, requests: Sequence[RequestView], executed_iterations: int) -> list[RequestView] | None:
        """The ranker's, behind those who will have aged then."""
        known = None
        if self.ranker.is_due(executed_iterations):
            known = self.ranker.forecast(requests, executed_iterations)
        ageing = {r.request_id: since for r, since in self._waits.longer_than(self.max_wait, executed_iterations)}
        if known is None and not ageing:
            return None
        aged = self._aged | ageing
        # not asked for its order: that might change what it goes by
        place = {request.request_id: i for i, request in enumerate(self._ranked)}
        ranked = sorted(requests, key=lambda r: place.get(r.request_id, len(place))) if known is None else known
        return [*_by_wait(requests, aged), *_without(ranked, aged)]

    def _forget(self, request_id: int) -> bool:
        """It has not aged, or not any more; whether it had."""
        self._contending.pop(request_id, None)
        return self._aged.pop(request_id, None) is not None


def _by_wait(requests: Sequence[RequestView], aged: Mapping[int, int]) -> list[RequestView]:
    """The aged among these, longest wait first."""
    found = [request for request in requests if request.request_id in aged]
    return sorted(found, key=lambda request: _wait_key(request, aged[request.request_id]))


def _without(requests: Sequence[RequestView], some: Mapping[int, int]) -> list[RequestView]:
    return [request for request in requests if request.request_id not in some]


def _wait_key(request: RequestView, since: int) -> tuple[int, float, int]:
    return (since, request.arrival, request.request_id)

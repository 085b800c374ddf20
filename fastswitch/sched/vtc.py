"""Fair shares between clients, as published: nobody is pushed out for it.

Source: Virtual Token Counter (Sheng et al., OSDI 2024), Algorithm 2. The next request is the earliest one of the client
        with the least counter; its prompt is charged when it is taken up, its answer token by token.
Ours:   what happens when memory runs short for one that was taken up, which cannot be where a whole answer's memory is
        reserved. The one that was taken up last is pushed out, and comes back before any other is taken up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from fastswitch.sched.claims import by_claim
from fastswitch.sched.roles import Accountant, Ranker
from fastswitch.sched.service_counters import ServiceCounters
from fastswitch.sched.view import RequestState, RequestView

__all__ = ["VTC"]


class VTC(Ranker, Accountant):
    """Ranker and accountant in one.

    A client whose requests hold the memory is served on until they end, whatever its counter says by then.

    Args:
        counters: of the clients; by default the paper's weights, all clients alike.

    >>> from types import SimpleNamespace as Request
    >>> policy = VTC()
    >>> one, two, other = (
    ...     Request(request_id=i, client_id=client, arrival=float(i), num_prompt_tokens=100, state=RequestState.WAITING)
    ...     for i, client in enumerate(("greedy", "greedy", "modest"))
    ... )
    >>> for request in (one, two, other):
    ...     policy.arrived(request)
    >>> policy.admitted(one, 100)  # its prompt is charged to its client
    >>> [each.request_id for each in policy.order([one, two, other])]
    [0, 2, 1]
    """

    def __init__(self, counters: ServiceCounters | None = None) -> None:
        self.counters = counters or ServiceCounters()
        self._taken_up: dict[int, int] = {}  # request_id |-> which its turn was, counted over all turns
        self._num_taken_up = 0
        self._costs: dict[int, float] = {}  # request_id |-> what its prompt will cost, of those not taken up
        self._held_off: set[int] = set()  # request_ids of those that are suspended, and so not in the queue

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """Those that were taken up, in that order, then those that wait as they would be taken up. O(n log n)."""
        costs = self._costs
        taken_up = [request for request in requests if request.request_id not in costs]
        taken_up.sort(key=lambda request: self._taken_up[request.request_id])
        queue = [request for request in requests if request.request_id in costs]
        return taken_up + by_claim(queue, self.counters.value, costs)[0]

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Only so that one which runs can grow, and only one that was taken up later."""
        if challenger.state is not RequestState.RUNNING or challenger.request_id not in self._taken_up:
            return False
        # a conversation that stayed on the device between its turns is there before its turn is taken up
        return self._taken_up[challenger.request_id] < self._taken_up.get(holder.request_id, inf)

    def is_due(self, executed_iterations: int) -> bool:  # noqa: ARG002
        """Whether anybody waits: each iteration's tokens count."""
        return bool(self.counters.present)

    def arrived(self, request: RequestView) -> None:
        """It joins the queue, where its client is lifted if it had nothing there."""
        self.counters.enter(request.client_id)
        self._costs[request.request_id] = self.counters.input_cost(request.client_id) * request.num_prompt_tokens

    def admitted(self, request: RequestView, num_prompt_tokens: int) -> None:
        """It leaves the queue, and its prompt is charged."""
        del self._costs[request.request_id]
        self._num_taken_up += 1
        self._taken_up[request.request_id] = self._num_taken_up
        self.counters.charge_input(request.client_id, num_prompt_tokens)
        self.counters.leave(request.client_id)

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:  # noqa: ARG002
        """Tokens of the answer; the prompt was charged when it was taken up."""
        self.counters.charge_output(request.client_id, num_decode_tokens)

    def ended(self, request: RequestView) -> None:
        """One that was cancelled in the queue leaves it."""
        waited = self._costs.pop(request.request_id, None) is not None
        if waited and request.request_id not in self._held_off:
            self.counters.leave(request.client_id)
        self._held_off.discard(request.request_id)
        self._taken_up.pop(request.request_id, None)

    def suspended(self, request: RequestView) -> None:
        """It leaves the queue, if it was there."""
        if request.request_id in self._costs:
            self._held_off.add(request.request_id)
            self.counters.leave(request.client_id)

    def resumed(self, request: RequestView) -> None:
        """It joins it again, as one that comes: a pause saves up no claim."""
        if request.request_id in self._held_off:
            self._held_off.remove(request.request_id)
            self.counters.enter(request.client_id)

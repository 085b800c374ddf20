"""Fair shares between clients by preemption: residency follows the counters.

Ours, on the counters of Virtual Token Counter (Sheng et al., OSDI 2024; `vtc` is that). Where a switch costs next to
nothing a client can be ahead by what it was served since the order was made last, and no longer by all that its
requests have yet to be served. A client's requests are ranked as if each had been served a *horizon* of tokens when the
next one comes up: a client that is behind by a horizon gets one request more on the device, not all of them.

In the queue, for the lift, is who has a request off the device: one whose requests are all served has no claim to more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastswitch.sched.claims import by_claim
from fastswitch.sched.roles import Accountant, Ranker
from fastswitch.sched.service_counters import ServiceCounters
from fastswitch.sched.view import RequestState, RequestView

__all__ = ["HORIZON", "PreemptiveVTC"]

HORIZON = 16  # tokens; benchmarks/fair_shares.py shows what more and fewer do
OUTSIDE = (RequestState.WAITING, RequestState.SWAPPED, RequestState.SWAPPING_OUT)


class PreemptiveVTC(Ranker, Accountant):
    """Ranker and accountant in one.

    Args:
        counters: of the clients; by default the paper's weights, all clients alike.
        horizon: tokens of an answer, at least 1. The order is made anew once in so many iterations. The fewer, the
            closer the counters stay together, and the more is switched.
        lead: weighted tokens, at least 0: nobody is pushed out for one whose claim is less by fewer. By default those
            that a horizon costs the client which wants the room.

    Raises:
        ValueError: if ``horizon`` or ``lead`` is less.

    >>> from types import SimpleNamespace as Request
    >>> policy = PreemptiveVTC(horizon=16)
    >>> one, two, other = (
    ...     Request(request_id=i, client_id=client, arrival=float(i), num_prompt_tokens=100, state=RequestState.WAITING)
    ...     for i, client in enumerate(("greedy", "greedy", "modest"))
    ... )
    >>> for request in (one, two, other):
    ...     policy.arrived(request)
    >>> _ = policy.order([one, two, other])  # both clients want room
    >>> policy.admitted(one, 100)
    >>> policy.charge(one, 0, 50)  # "greedy" is ahead by a prompt and 50 tokens of an answer
    >>> [each.request_id for each in policy.order([one, two, other])], policy.may_preempt(other, one)
    ([2, 0, 1], True)
    """

    def __init__(
        self, counters: ServiceCounters | None = None, *, horizon: int = HORIZON, lead: float | None = None
    ) -> None:
        self.counters = counters or ServiceCounters()
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1 token, got {horizon}")
        if lead is not None and lead < 0:
            raise ValueError(f"lead must be at least 0 weighted tokens, got {lead}")
        self.horizon = horizon
        self.lead = lead
        self._claims: dict[int, float] = {}  # request_id |-> its client's counter when it comes up
        self._costs: dict[int, float] = {}  # request_id |-> what it adds to its client's counter once it has come up
        self._ranked_at = 0  # executed iterations

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """Least claim first, then the earlier turn. O(n log n)."""
        self._lift(requests)
        ranked, self._claims = by_claim(requests, self.counters.value, self._costs)
        return ranked

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether the challenger's claim is less by the lead; so that one which runs can grow, by anything."""
        lead = 0.0 if challenger.state is RequestState.RUNNING else self._lead_of(challenger)
        return self._claims[challenger.request_id] + lead <= self._claims[holder.request_id]

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:  # noqa: ARG002
        """Nothing: counters are all that counts."""
        self._ranked_at = executed_iterations
        return {}

    def is_due(self, executed_iterations: int) -> bool:
        """Once a horizon."""
        return executed_iterations >= self._ranked_at + self.horizon

    def arrived(self, request: RequestView) -> None:
        """It will cost its prompt and a horizon."""
        client_id = request.client_id
        prompt = self.counters.input_cost(client_id) * request.num_prompt_tokens
        self._costs[request.request_id] = prompt + self.horizon * self.counters.output_cost(client_id)

    def admitted(self, request: RequestView, num_prompt_tokens: int) -> None:
        """Its prompt is charged, and costs nothing from now on."""
        self._costs[request.request_id] = self.horizon * self.counters.output_cost(request.client_id)
        self.counters.charge_input(request.client_id, num_prompt_tokens)

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:  # noqa: ARG002
        """Tokens of the answer; the prompt was charged when it was admitted."""
        self.counters.charge_output(request.client_id, num_decode_tokens)

    def ended(self, request: RequestView) -> None:
        """It has nothing to come."""
        del self._costs[request.request_id]

    def _lead_of(self, challenger: RequestView) -> float:
        each = self.counters.output_cost(challenger.client_id)
        return self.horizon * each if self.lead is None else self.lead

    def _lift(self, requests: Sequence[RequestView]) -> None:
        """Lift the clients that did not want for room when the order was made last, and do now."""
        wanting = dict.fromkeys(request.client_id for request in requests if request.state in OUTSIDE)
        before = list(self.counters.present)
        for client_id in sorted((each for each in before if each not in wanting), key=self.counters.value):
            self.counters.leave(client_id)
        for client_id in wanting:
            if client_id not in before:
                self.counters.enter(client_id)

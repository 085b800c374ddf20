"""The order in which clients' requests come up when each one, once it is taken up, adds to its client's counter.

Ours; what it computes is the selection loop of Virtual Token Counter (Sheng et al., OSDI 2024): take the earliest
request of the client with the least counter, charge it, again. A request's *claim* is its client's counter when it is
taken; a client's claims rise, so merging them is sorting by them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter, itemgetter

from fastswitch.sched.view import RequestView

__all__ = ["by_claim"]

_earliest_first = attrgetter("arrival", "request_id")
_claim = itemgetter(0)


def by_claim(
    requests: Iterable[RequestView],
    counter: Callable[[Hashable], float],
    cost: Callable[[RequestView], float],
) -> list[tuple[float, RequestView]]:
    """(claim, request), least claim first, the earlier turn first among equals. O(n log n).

    Args:
        requests: in any order.
        counter: client_id |-> its counter now.
        cost: what a request adds to it when it is taken up; not negative.
    """
    next_claims: dict[Hashable, float] = {}
    claims = []
    for request in sorted(requests, key=_earliest_first):
        client_id = request.client_id
        claim = next_claims[client_id] if client_id in next_claims else counter(client_id)
        claims.append((claim, request))
        next_claims[client_id] = claim + cost(request)
    claims.sort(key=_claim)
    return claims

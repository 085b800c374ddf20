"""Service given to each client, charged from what was enacted and from nothing else.

Rule 1 of the scheduler: a token that is computed again after its KV was lost is the engine's cost, not the client's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import cast

from fastswitch.sched.roles import Accountant, Ranker
from fastswitch.sched.view import RequestView

__all__ = ["TokenAccountant", "accountant_for"]


class TokenAccountant(Accountant):
    """Counts tokens served, by client.

    Attributes:
        prefill_tokens: client_id |-> prompt tokens computed for the first time.
        decode_tokens: client_id |-> tokens generated.

    >>> from types import SimpleNamespace as Request
    >>> accountant = TokenAccountant()
    >>> accountant.charge(Request(client_id="alice"), 100, 1)
    >>> accountant.charge(Request(client_id="alice"), 0, 1)
    >>> accountant.prefill_tokens["alice"], accountant.decode_tokens["alice"]
    (100, 2)
    """

    def __init__(self) -> None:
        self.prefill_tokens: Counter[Hashable] = Counter()
        self.decode_tokens: Counter[Hashable] = Counter()

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """Add what an executed iteration gave to ``request``."""
        client_id = request.client_id
        self.prefill_tokens[client_id] += num_prefill_tokens
        self.decode_tokens[client_id] += num_decode_tokens


def accountant_for(ranker: Ranker, accountant: Accountant | None) -> Accountant:
    """Who is told what was enacted: ``accountant``, or whom the ranker needs told if none is given.

    That is the ranker, or one that it wraps (its attribute ``ranker``), if it charges; else a `TokenAccountant`.

    Raises:
        ValueError: if the ranker ranks by what was served, and a `TokenAccountant`, which tells nobody, is given.

    >>> from fastswitch.sched import FCFS, VTC, Hysteresis
    >>> shares = VTC()
    >>> accountant_for(Hysteresis(shares, min_stay=8), None) is shares, type(accountant_for(FCFS(), None)).__name__
    (True, 'TokenAccountant')
    """
    told: object = ranker
    while told is not None and not hasattr(told, "charge"):
        told = getattr(told, "ranker", None)  # which it wraps
    if told is None:
        return TokenAccountant() if accountant is None else accountant
    if type(accountant) is TokenAccountant:
        name = type(told).__name__
        raise ValueError(f"{name} ranks by what was served, which TokenAccountant does not tell it: give no accountant")
    return cast("Accountant", told) if accountant is None else accountant

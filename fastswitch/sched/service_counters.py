"""What each client was served, as the counters that fair scheduling compares.

Source: Virtual Token Counter (Sheng et al., OSDI 2024), Algorithm 2 with its weighted form: a token of a prompt weighs
        1, one of an answer 2, divided by the client's weight. Who comes back after a pause is *lifted* to the least
        counter of those who are there, or to the last leaver's where nobody is: a pause saves up no claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping

__all__ = ["ServiceCounters"]


class ServiceCounters:
    """client_id |-> weighted tokens, and who is there.

    Args:
        input_weight: of a prompt's token.
        output_weight: of an answer's token.
        weights: client_id |-> its share beside others; 1 for those who are not named.

    Raises:
        ValueError: if a weight is not positive.

    >>> counters = ServiceCounters()
    >>> counters.enter("a")
    >>> counters.charge_output("a", 50)
    >>> counters.enter("b")  # lifted: what "a" was served while "b" was away is not owed to "b"
    >>> counters.value("b")
    100.0
    """

    def __init__(
        self,
        input_weight: float = 1.0,
        output_weight: float = 2.0,
        weights: Mapping[Hashable, float] | None = None,
    ) -> None:
        self.input_weight = input_weight
        self.output_weight = output_weight
        self.weights = dict(weights or {})
        for name, weight in [("input", input_weight), ("output", output_weight), *self.weights.items()]:
            if not weight > 0:
                raise ValueError(f"weights must be positive, got {weight} for {name}")
        self._values: dict[Hashable, float] = {}
        self._present: Counter[Hashable] = Counter()  # client_id |-> how often it entered and did not leave
        self._last_left: Hashable | None = None

    @property
    def values(self) -> Mapping[Hashable, float]:
        """The counters of all clients that ever came."""
        return self._values

    @property
    def present(self) -> Collection[Hashable]:
        """The clients that are there."""
        return self._present.keys()

    def value(self, client_id: Hashable) -> float:
        """Weighted tokens of a client, lifts included; 0 for one that never came. O(1)."""
        return self._values.get(client_id, 0.0)

    def input_cost(self, client_id: Hashable) -> float:
        """What a token of a prompt adds to the client's counter."""
        return self.input_weight / self.weights.get(client_id, 1.0)

    def output_cost(self, client_id: Hashable) -> float:
        """What a token of an answer adds to it."""
        return self.output_weight / self.weights.get(client_id, 1.0)

    def enter(self, client_id: Hashable) -> None:
        """A turn of the client joins; its first one lifts the counter. O(clients that are there)."""
        if not self._present[client_id]:
            others = [self.value(other) for other in self._present]
            least = min(others) if others else self.value(self._last_left)
            self._values[client_id] = max(self.value(client_id), least)
        self._present[client_id] += 1

    def leave(self, client_id: Hashable) -> None:
        """One of its turns leaves."""
        self._present[client_id] -= 1
        if not self._present[client_id]:
            del self._present[client_id]
            self._last_left = client_id

    def charge_input(self, client_id: Hashable, num_tokens: int) -> None:
        """The client's prompt of so many tokens was taken up."""
        self._values[client_id] = self.value(client_id) + self.input_cost(client_id) * num_tokens

    def charge_output(self, client_id: Hashable, num_tokens: int) -> None:
        """The client was given so many tokens."""
        self._values[client_id] = self.value(client_id) + self.output_cost(client_id) * num_tokens

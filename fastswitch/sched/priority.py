"""Priorities that change at run time, and the ranker that serves them.

Paper: FastSwitch (arXiv 2411.18424) evaluates two offline patterns, Random and Markov, with an update frequency of 0.04
       (LLaMA-8B) and 0.02 (Qwen-32B): one update every 25 and 50 iterations.
Ours:  4 levels, 0 is served first. Random: every level is drawn afresh at an update. Markov: a step to a neighbouring
       level with probability 0.1 in total, half each way, clipped at the ends. A level is a function of (seed, update,
       conversation) alone, so all runs of a comparison see the same ones, whatever they did before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, log, log1p
from operator import attrgetter
from typing import NamedTuple, Protocol

from fastswitch.sched.integer_hash import draws, mix
from fastswitch.sched.view import RequestView

__all__ = ["NUM_LEVELS", "MarkovPriorities", "Priorities", "PriorityTrace", "RandomPriorities"]

NUM_LEVELS = 4


class Priorities(Protocol):
    """A pattern: each conversation's level after each update."""

    def level(self, conversation_index: int, update_index: int) -> int:
        """Level in ``[0, NUM_LEVELS)``, a pure function of its arguments and the pattern's seed."""

    def levels(self, conversation_indices: Iterable[int], update_index: int) -> list[int]:
        """``level`` of each conversation: all at once, since an update asks about thousands."""


class RandomPriorities:
    """Every level is drawn afresh at every update.

    >>> RandomPriorities(seed=0).level(3, 7) == RandomPriorities(seed=0).level(3, 7)
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def level(self, conversation_index: int, update_index: int) -> int:
        """Uniform over the levels. O(1)."""
        return self.levels([conversation_index], update_index)[0]

    def levels(self, conversation_indices: Iterable[int], update_index: int) -> list[int]:
        """Uniform over the levels, each for itself."""
        return [number % NUM_LEVELS for number in draws(mix(self.seed, update_index), conversation_indices)]


class MarkovPriorities:
    """Levels that stick: at an update a conversation moves to a neighbouring level with probability ``step``.

    Drawn are the updates from move to move, which are geometric, and the way of each move.

    Raises:
        ValueError: if ``step`` is no probability.

    >>> chain = MarkovPriorities(seed=0)
    >>> levels = [chain.level(3, update) for update in range(200)]
    >>> set(levels) <= set(range(NUM_LEVELS)), max(abs(b - a) for a, b in zip(levels, levels[1:]))
    (True, 1)
    """

    def __init__(self, seed: int, step: float = 0.1) -> None:
        if not 0 <= step <= 1:
            raise ValueError(f"step must be a probability, got {step}")
        self.seed = seed
        self.step = step
        self._log_stay = log1p(-step) if step < 1 else -inf
        self._stays: dict[int, _Stay] = {}  # conversation_index |-> the stay that was asked about last

    def level(self, conversation_index: int, update_index: int) -> int:
        """The chain's level after ``update_index`` steps.

        O(moves since it was asked about last), in order; else O(moves since the first update).
        """
        stay = self._stays.get(conversation_index)
        if stay is None or update_index < stay.since:
            level = RandomPriorities(self.seed).level(conversation_index, 0)
            stay = _Stay(level, 0, 0, self._next_move(conversation_index, 0, 0))
        while update_index >= stay.until:
            up = mix(self.seed, conversation_index, stay.num_moves) & 1
            level = min(max(stay.level + (1 if up else -1), 0), NUM_LEVELS - 1)
            since, num_moves = int(stay.until), stay.num_moves + 1
            stay = _Stay(level, num_moves, since, self._next_move(conversation_index, num_moves, since))
        self._stays[conversation_index] = stay
        return stay.level

    def levels(self, conversation_indices: Iterable[int], update_index: int) -> list[int]:
        """``level`` of each conversation."""
        return [self.level(conversation, update_index) for conversation in conversation_indices]

    def _next_move(self, conversation_index: int, num_moves: int, since: int) -> float:
        if not self.step:
            return inf
        uniform = ((mix(self.seed, conversation_index, num_moves) >> 11) + 0.5) / 2**53  # the lowest bit is the way
        return since + 1 + log(uniform) / self._log_stay // 1


class PriorityTrace:
    """Ranks by level, then by the arrival of the turn, then by request id.

    Args:
        priorities: the pattern; None keeps the levels that were submitted or set (0 where none was).
        frequency: updates per executed iteration, in (0, 1]: 0.04 is one update every 25 iterations.

    Raises:
        ValueError: if ``frequency`` is outside (0, 1].

    >>> from types import SimpleNamespace as Request
    >>> urgent, early = Request(request_id=7, priority=0, arrival=9.0), Request(request_id=3, priority=2, arrival=1.0)
    >>> ranker = PriorityTrace(RandomPriorities(seed=0), frequency=0.04)
    >>> [each.request_id for each in ranker.order([early, urgent])], ranker.is_due(24), ranker.is_due(25)
    ([7, 3], False, True)
    """

    def __init__(self, priorities: Priorities | None, frequency: float = 0.04) -> None:
        if not 0 < frequency <= 1:
            raise ValueError(f"frequency must be in (0, 1], got {frequency}")
        self.priorities = priorities
        self.frequency = frequency
        self._update_index = 0

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """Smallest level first. O(n log n)."""
        # three stable passes over numbers: half the time of one over tuples
        ranked = sorted(requests, key=attrgetter("request_id"))
        ranked.sort(key=attrgetter("arrival"))
        ranked.sort(key=_level)
        return ranked

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger`` ranks better; within a level the earlier turn does."""
        return _key(challenger) < _key(holder)

    def is_due(self, executed_iterations: int) -> bool:
        """Whether an update was not made yet, which ``new_levels`` does. Levels that are set change by themselves."""
        return self.priorities is not None and self._updates(executed_iterations) != self._update_index

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """All levels when an update is due, otherwise those of requests that have none yet."""
        due = self.is_due(executed_iterations)
        self._update_index = self._updates(executed_iterations)
        if self.priorities is None:
            return {request.request_id: 0 for request in requests if request.priority is None}
        drawn = [request.request_id for request in requests if due or request.priority is None]
        return dict(zip(drawn, self.priorities.levels(drawn, self._update_index), strict=True))

    def forecast(self, requests: Sequence[RequestView], executed_iterations: int) -> list[RequestView] | None:
        """By the levels of the update that is due then: they are known beforehand. None if none is. O(n log n)."""
        update_index = self._updates(executed_iterations)
        if self.priorities is None or update_index == self._update_index:
            return None
        levels = self.priorities.levels([request.request_id for request in requests], update_index)
        ranked = sorted(zip(levels, requests, strict=True), key=lambda pair: (pair[0], *_key(pair[1])[1:]))
        return [request for _, request in ranked]

    def _updates(self, executed_iterations: int) -> int:
        return int(executed_iterations * self.frequency + 1e-9)


class _Stay(NamedTuple):
    """A conversation's level from one move to the next."""

    level: int
    num_moves: int  # before it
    since: int  # the first update at which it has the level
    until: float  # the first at which it has it no longer


def _level(request: RequestView) -> int:
    return request.priority or 0


def _key(request: RequestView) -> tuple[int, float, int]:
    return (_level(request), request.arrival, request.request_id)

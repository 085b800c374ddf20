"""Priorities that change at run time, and the ranker that serves them.

Paper: FastSwitch (arXiv 2411.18424) evaluates two offline patterns, Random and Markov, with an update frequency of 0.04
       (LLaMA-8B) and 0.02 (Qwen-32B): one update every 25 and 50 iterations.
Ours:  4 levels, 0 is served first. Random: every level is drawn afresh at an update. Markov: a step to a neighbouring
       level with probability 0.1 in total, half each way, clipped at the ends. A level is a function of (seed, update,
       conversation) alone, so all runs of a comparison see the same ones, whatever they did before.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from fastswitch.sched.view import RequestView

__all__ = ["NUM_LEVELS", "MarkovPriorities", "Priorities", "PriorityTrace", "RandomPriorities"]

NUM_LEVELS = 4


class Priorities(Protocol):
    """A pattern: each conversation's level after each update."""

    def level(self, conversation_index: int, update_index: int) -> int:
        """Level in ``[0, NUM_LEVELS)``, a pure function of its arguments and the pattern's seed."""


class RandomPriorities:
    """Every level is drawn afresh at every update.

    >>> RandomPriorities(seed=0).level(3, 7) == RandomPriorities(seed=0).level(3, 7)
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def level(self, conversation_index: int, update_index: int) -> int:
        """Uniform over the levels. O(1)."""
        return random.Random(f"level {self.seed} {update_index} {conversation_index}").randrange(NUM_LEVELS)


class MarkovPriorities:
    """Levels that stick: at an update a conversation moves to a neighbouring level with probability ``step``."""

    def __init__(self, seed: int, step: float = 0.1) -> None:
        if not 0 <= step <= 1:
            raise ValueError(f"step must be a probability, got {step}")
        self.seed = seed
        self.step = step
        self._reached: dict[int, tuple[int, int]] = {}  # conversation_index |-> (update_index, level) reached last

    def level(self, conversation_index: int, update_index: int) -> int:
        """The chain's level after ``update_index`` steps. O(1) when asked in order, else O(update_index)."""
        reached, level = self._reached.get(conversation_index, (0, -1))
        if level < 0 or reached > update_index:
            reached, level = 0, RandomPriorities(self.seed).level(conversation_index, 0)
        for update in range(reached + 1, update_index + 1):
            draw = random.Random(f"step {self.seed} {update} {conversation_index}").random()
            move = -1 if draw < self.step / 2 else 1 if draw < self.step else 0
            level = min(max(level + move, 0), NUM_LEVELS - 1)
        self._reached[conversation_index] = (update_index, level)
        return level


class PriorityTrace:
    """Ranks by level, then by the arrival of the turn, then by request id.

    Args:
        priorities: the pattern; None keeps the levels that were submitted or set (0 where none was).
        frequency: updates per executed iteration, in (0, 1]: 0.04 is one update every 25 iterations.
    """

    def __init__(self, priorities: Priorities | None, frequency: float = 0.04) -> None:
        if not 0 < frequency <= 1:
            raise ValueError(f"frequency must be in (0, 1], got {frequency}")
        self.priorities = priorities
        self.frequency = frequency
        self._update_index = 0

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """Smallest level first. O(n log n)."""
        return sorted(requests, key=_key)

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger`` ranks better; within a level the earlier turn does."""
        return _key(challenger) < _key(holder)

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """All levels when an update is due, otherwise those of requests that have none yet."""
        update_index = int(executed_iterations * self.frequency + 1e-9)
        due = update_index != self._update_index
        self._update_index = update_index
        if self.priorities is None:
            return {request.request_id: 0 for request in requests if request.priority is None}
        drawn = [request.request_id for request in requests if due or request.priority is None]
        return {request_id: self.priorities.level(request_id, update_index) for request_id in drawn}


def _key(request: RequestView) -> tuple[int, float, int]:
    return (request.priority or 0, request.arrival, request.request_id)

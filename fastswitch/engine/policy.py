"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastswitch.sched import (
    FCFS,
    MarkovPriorities,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    Scheduler,
    SwapOut,
    TokenAccountant,
)

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduler, as its options say it; makes a fresh one for each run.

    Attributes:
        policy: ``fcfs`` or ``priority``.
        priority: pattern of the levels, ``random`` or ``markov``.
        frequency: updates of the levels, an iteration.
        packer: ``prefill-first``.
        token_budget: tokens in one iteration.
        evictor: of runs that copy, ``swap-out`` or ``recompute``.
        seed: of the levels.
        weights: client_id |-> how much it is entitled to; a client that is not named has 1.
    """

    policy: str
    priority: str
    frequency: float
    packer: str
    token_budget: int
    evictor: str
    seed: int
    weights: Mapping[Hashable, float] = field(default_factory=dict)

    def scheduler(self, *, copies: bool) -> Scheduler:
        """A fresh one; a run that copies nothing recomputes its victims."""
        evictor = SwapOut() if copies and self.evictor == "swap-out" else Recompute()
        return Scheduler(self._ranker(), PrefillFirst(self.token_budget), evictor, TokenAccountant())

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed", "priority", "frequency"} if self.policy == "fcfs" else {"seed"}
        if not self.weights:
            unused.add("weights")
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _ranker(self) -> Ranker:
        if self.policy == "fcfs":
            return FCFS()
        pattern = RandomPriorities if self.priority == "random" else MarkovPriorities
        return PriorityTrace(pattern(self.seed), self.frequency)

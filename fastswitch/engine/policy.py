"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastswitch.sched import (
    FCFS,
    VTC,
    Accountant,
    MarkovPriorities,
    PreemptiveVTC,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    Scheduler,
    ServiceCounters,
    SwapOut,
    TokenAccountant,
)

__all__ = ["Policy"]

FAIR = {"vtc": VTC, "vtc-preemptive": PreemptiveVTC}


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduler, as its options say it; makes a fresh one for each run.

    Attributes:
        policy: ``fcfs``, ``priority``, ``vtc`` or ``vtc-preemptive``.
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
        ranker, accountant = self._ranker_and_accountant()
        return Scheduler(ranker, PrefillFirst(self.token_budget), evictor, accountant)

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed"} if self.policy == "priority" else {"seed", "priority", "frequency"}
        if not self.weights:
            unused.add("weights")
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _ranker_and_accountant(self) -> tuple[Ranker, Accountant]:
        if self.policy in FAIR:
            fair = FAIR[self.policy](ServiceCounters(weights=self.weights))
            return fair, fair
        if self.policy == "fcfs":
            return FCFS(), TokenAccountant()
        pattern = RandomPriorities if self.priority == "random" else MarkovPriorities
        return PriorityTrace(pattern(self.seed), self.frequency), TokenAccountant()

"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    """

    policy: str
    priority: str
    frequency: float
    packer: str
    token_budget: int
    evictor: str
    seed: int

    def scheduler(self, *, copies: bool) -> Scheduler:
        """A fresh one; a run that copies nothing recomputes its victims."""
        evictor = SwapOut() if copies and self.evictor == "swap-out" else Recompute()
        ranker, accountant = self._ranker_and_accountant()
        return Scheduler(ranker, PrefillFirst(self.token_budget), evictor, accountant)

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed"} if self.policy == "priority" else {"seed", "priority", "frequency"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _ranker_and_accountant(self) -> tuple[Ranker, Accountant]:
        if self.policy in FAIR:
            fair = FAIR[self.policy]()
            return fair, fair
        if self.policy == "fcfs":
            return FCFS(), TokenAccountant()
        pattern = RandomPriorities if self.priority == "random" else MarkovPriorities
        return PriorityTrace(pattern(self.seed), self.frequency), TokenAccountant()

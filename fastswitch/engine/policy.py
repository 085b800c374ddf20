"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastswitch.engine.tbt_target import DerivedBudget
from fastswitch.sched import (
    FCFS,
    ChunkedPrefill,
    MarkovPriorities,
    Packer,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    Scheduler,
    SwapOut,
    TokenAccountant,
)

__all__ = ["PACKERS", "Policy"]

PACKERS: dict[str, Callable[[int], Packer]] = {"prefill-first": PrefillFirst, "chunked": ChunkedPrefill}


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduler, as its options say it; makes a fresh one for each run.

    Attributes:
        policy: ``fcfs`` or ``priority``.
        priority: pattern of the levels, ``random`` or ``markov``.
        frequency: updates of the levels, an iteration.
        packer: ``prefill-first`` or ``chunked``.
        token_budget: tokens in one iteration.
        evictor: of runs that copy, ``swap-out`` or ``recompute``.
        seed: of the levels.
        budget_from: what the token budget was derived from; None where it was given.
    """

    policy: str
    priority: str
    frequency: float
    packer: str
    token_budget: int
    evictor: str
    seed: int
    budget_from: DerivedBudget | None = None

    def scheduler(self, *, copies: bool) -> Scheduler:
        """A fresh one; a run that copies nothing recomputes its victims."""
        evictor = SwapOut() if copies and self.evictor == "swap-out" else Recompute()
        return Scheduler(self._ranker(), self._packer(), evictor, TokenAccountant())

    def within(self, token_budget: int, budget_from: DerivedBudget) -> Policy:
        """The policy with a budget that was derived."""
        return replace(self, token_budget=token_budget, budget_from=budget_from)

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed", "priority", "frequency"} if self.policy == "fcfs" else {"seed"}
        unused |= {"budget_from"} if self.budget_from is None else set()
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _packer(self) -> Packer:
        return PACKERS[self.packer](self.token_budget)

    def _ranker(self) -> Ranker:
        if self.policy == "fcfs":
            return FCFS()
        pattern = RandomPriorities if self.priority == "random" else MarkovPriorities
        return PriorityTrace(pattern(self.seed), self.frequency)

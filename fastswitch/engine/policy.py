"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastswitch.sched import (
    FCFS,
    CheapestSwitch,
    Evictor,
    Hysteresis,
    LeastBytes,
    LowestRank,
    MarkovPriorities,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    Scheduler,
    SwapOut,
    SwitchCosts,
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
        evictor: of runs that copy, ``swap-out``, ``recompute`` or ``cheapest``.
        seed: of the levels.
        victims: whom to push out, ``lowest-rank`` or ``least-bytes``.
        min_levels: by which a request that pushes another out must be better.
        min_stay: tokens that a request generates before it may be pushed out.
    """

    policy: str
    priority: str
    frequency: float
    packer: str
    token_budget: int
    evictor: str
    seed: int
    victims: str = "lowest-rank"
    min_levels: int = 0
    min_stay: int = 0

    def scheduler(self, *, copies: bool, costs: SwitchCosts | None = None) -> Scheduler:
        """A fresh one; a run that copies nothing recomputes its victims.

        Args:
            copies: whether the run copies anything.
            costs: what ``cheapest`` goes by.

        Raises:
            ValueError: if costs are needed and there are none.
        """
        evictor = self._evictor(costs) if copies else Recompute()
        ranker = self._with_hysteresis(self._ranker())
        victims = LeastBytes(ranker.may_preempt) if self.victims == "least-bytes" else LowestRank()
        return Scheduler(ranker, PrefillFirst(self.token_budget), evictor, TokenAccountant(), victims=victims)

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed", "priority", "frequency"} if self.policy == "fcfs" else {"seed"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _with_hysteresis(self, ranker: Ranker) -> Ranker:
        if not (self.min_levels or self.min_stay):
            return ranker
        return Hysteresis(ranker, min_levels=self.min_levels, min_stay=self.min_stay)

    def _evictor(self, costs: SwitchCosts | None) -> Evictor:
        if self.evictor == "cheapest":
            if costs is None:
                raise ValueError("evictor 'cheapest' goes by what a switch takes: give costs")
            return CheapestSwitch(costs)
        return SwapOut() if self.evictor == "swap-out" else Recompute()

    def _ranker(self) -> Ranker:
        if self.policy == "fcfs":
            return FCFS()
        pattern = RandomPriorities if self.priority == "random" else MarkovPriorities
        return PriorityTrace(pattern(self.seed), self.frequency)

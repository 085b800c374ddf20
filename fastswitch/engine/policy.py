"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

from fastswitch.engine.tbt_target import DerivedBudget
from fastswitch.engine.usage import UsageError
from fastswitch.sched import (
    FCFS,
    HORIZON,
    MLFQ,
    VTC,
    Accountant,
    Aging,
    CheapestSwitch,
    ChunkedPrefill,
    Evictor,
    Hysteresis,
    LeastBytes,
    LowestRank,
    MarkovPriorities,
    Packer,
    PreemptiveVTC,
    PrefillFirst,
    Priorities,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    RecordedPriorities,
    Scheduler,
    ServiceCounters,
    SwapOut,
    SwitchCosts,
    TokenAccountant,
)

__all__ = ["FAIR", "PACKERS", "Policy", "Profile"]


class Profile(Protocol):
    """How long the model's iterations take, as measured or computed once before all runs."""

    @property
    def decode_s(self) -> float:
        """Seconds of an iteration that gives each of a few requests a token."""

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds of one that computes a prompt of so many tokens."""


FAIR: dict[str, Callable[[ServiceCounters, int | None], VTC | PreemptiveVTC]] = {
    "vtc": lambda counters, _horizon: VTC(counters),
    "vtc-preemptive": lambda counters, horizon: PreemptiveVTC(counters, horizon=horizon or HORIZON),
}
PACKERS: dict[str, Callable[[int], Packer]] = {"prefill-first": PrefillFirst, "chunked": ChunkedPrefill}


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduler, as its options say it; makes a fresh one for each run.

    Attributes:
        policy: ``fcfs``, ``priority``, ``vtc``, ``vtc-preemptive`` or ``mlfq``.
        priority: pattern of the levels, ``random`` or ``markov``, or the name of the file that has them.
        frequency: updates of the levels, an iteration.
        packer: ``prefill-first`` or ``chunked``.
        token_budget: tokens in one iteration.
        evictor: of runs that copy, ``swap-out``, ``recompute`` or ``cheapest``.
        seed: of the levels.
        aging: executed iterations without service after which a turn comes before everybody; None: never.
        recorded: the levels of that file.
        profile: of the model, which ``mlfq`` ranks by.
        horizon: of ``vtc-preemptive``, in tokens; None: its own.
        weights: client_id |-> how much it is entitled to; a client that is not named has 1.
        budget_from: what the token budget was derived from; None where it was given.
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
    aging: int | None = None
    recorded: RecordedPriorities | None = None
    profile: Profile | None = None
    horizon: int | None = None
    weights: Mapping[Hashable, float] = field(default_factory=dict)
    budget_from: DerivedBudget | None = None
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
        ranker, accountant = self._ranker_and_accountant()
        ranker = self._with_hysteresis(ranker)
        if self.aging is not None:
            ranker = accountant = Aging(ranker, accountant, self.aging)
        victims = LeastBytes(ranker.may_preempt) if self.victims == "least-bytes" else LowestRank()
        packer = PACKERS[self.packer](self.token_budget)
        return Scheduler(ranker, packer, evictor, accountant, victims=victims)

    def check_conversations(self, number: int) -> None:
        """Refuse levels of conversations that are not there.

        Raises:
            UsageError: in one line.
        """
        if self.recorded is not None and self.recorded.num_conversations > number:
            raise UsageError(
                f"--priority {self.priority} names conversation {self.recorded.num_conversations - 1}, there are "
                f"{number}, counted from 0: take it out"
            )

    def within(self, token_budget: int, budget_from: DerivedBudget) -> Policy:
        """The policy with a budget that was derived."""
        return replace(self, token_budget=token_budget, budget_from=budget_from)

    def as_json(self) -> dict[str, Any]:
        """What was decided, without what it does not use."""
        unused = {"seed", "recorded", "profile", "budget_from"}
        if self.policy != "priority":
            unused |= {"priority", "frequency"}
        unused |= {name for name in ("aging", "horizon", "weights") if not getattr(self, name)}
        used = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in unused}
        return used if self.budget_from is None else {**used, "budget_from": asdict(self.budget_from)}

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

    def _ranker_and_accountant(self) -> tuple[Ranker, Accountant]:
        """Two objects, or one twice: a policy that ranks by what was served is both."""
        if self.policy == "fcfs":
            return FCFS(), TokenAccountant()
        if self.policy in FAIR:
            fair = FAIR[self.policy](ServiceCounters(weights=self.weights), self.horizon)
            return fair, fair
        if self.policy == "mlfq":
            assert self.profile is not None, "whoever makes the policy profiles the model"
            mlfq = MLFQ(self.profile.prefill_s, self.profile.decode_s)
            return mlfq, mlfq
        return PriorityTrace(self._priorities(), self.frequency), TokenAccountant()

    def _priorities(self) -> Priorities:
        if self.recorded is not None:
            return self.recorded
        return RandomPriorities(self.seed) if self.priority == "random" else MarkovPriorities(self.seed)

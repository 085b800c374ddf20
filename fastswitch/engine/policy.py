"""Who is served first and by which rules, as one value that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fastswitch.engine.policy_choices import EVICTORS, PACKERS, PATTERNS, RANKERS, VICTIMS, Profile
from fastswitch.engine.tbt_target import DerivedBudget
from fastswitch.engine.usage import UsageError
from fastswitch.sched import Aging, Hysteresis, Ranker, Recompute, RecordedPriorities, Scheduler, SwitchCosts

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduler, as its options say it; makes a fresh one for each run.

    Attributes:
        policy: the ranker, one of `RANKERS`.
        priority: pattern of the levels, one of `PATTERNS`, or the name of the file that has them.
        frequency: updates of the levels, an iteration.
        packer: one of `PACKERS`.
        token_budget: tokens in one iteration.
        evictor: of runs that copy, one of `EVICTORS`.
        seed: of the levels.
        aging: executed iterations without service after which a turn comes before everybody; None: never.
        recorded: the levels of that file.
        profile: of the model, which ``mlfq`` ranks by.
        horizon: of ``vtc-preemptive``, in tokens; None: its own.
        weights: client_id |-> how much it is entitled to; a client that is not named has 1.
        budget_from: what the token budget was derived from; None where it was given.
        victims: whom to push out, one of `VICTIMS`.
        min_levels: by which a request that pushes another out must be better.
        min_stay: tokens that a request generates before it may be pushed out.

    Raises:
        ValueError: there is no such part.
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

    def __post_init__(self) -> None:
        parts: dict[str, Mapping[str, Any]] = {
            "policy": RANKERS,
            "packer": PACKERS,
            "evictor": EVICTORS,
            "victims": VICTIMS,
        }
        if self.recorded is None:
            parts["priority"] = PATTERNS
        for name, known in parts.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def scheduler(self, *, copies: bool, costs: SwitchCosts | None = None) -> Scheduler:
        """A fresh one; a run that copies nothing recomputes its victims.

        Args:
            copies: whether the run copies anything.
            costs: what ``cheapest`` goes by.

        Raises:
            ValueError: if costs are needed and there are none.
        """
        evictor = EVICTORS[self.evictor](costs) if copies else Recompute()
        ranker = self._with_hysteresis(RANKERS[self.policy](self))
        if self.aging is not None:
            ranker = Aging(ranker, max_wait=self.aging)
        packer = PACKERS[self.packer].make(self.token_budget)
        return Scheduler(ranker, packer, evictor, victims=VICTIMS[self.victims](ranker))

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

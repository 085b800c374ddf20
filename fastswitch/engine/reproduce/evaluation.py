"""All that was simulated so far, and what a report asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastswitch.engine.reproduce.case import Case, Simulation
from fastswitch.engine.reproduce.outcome import Outcome
from fastswitch.engine.reproduce.plan import CAPACITY, HEADLINE, LOAD, PATTERNS, TURNS
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.reproduce.result import Result, pooled

__all__ = ["Evaluation", "Place", "capacity_of"]

QUOTED_P99_S = 10.0  # TTFT: what a user may bear
LIMIT = "free_switch"

Place = tuple[str, str]  # setup, pattern of the levels


@dataclass(slots=True)
class Evaluation:
    """The cases that are complete, in the order of the plan.

    Attributes:
        asked: what for.
        cases: all that are to be simulated, as far as is known yet.
        outcomes: what is done.
    """

    asked: ReproduceOptions
    cases: list[Case] = field(default_factory=list)
    outcomes: dict[Simulation, Outcome] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        """One a complete case."""
        return [
            Result.of(case, {simulation.run: self.outcomes[simulation] for simulation in case.simulations})
            for case in self.cases
            if all(simulation in self.outcomes for simulation in case.simulations)
        ]

    @property
    def places(self) -> Iterator[Place]:
        """Setups and patterns, in order."""
        return ((setup, priority) for setup in self.asked.setups for priority in PATTERNS)

    def part(self, name: str) -> list[Result]:
        """The results of one part of the plan."""
        return [result for result in self.results if result.case.part == name]

    def at(self, name: str, place: Place) -> list[Result]:
        """Those of one setup and pattern."""
        return [result for result in self.part(name) if (result.case.setup, result.case.priority) == place]

    def headlines(self) -> dict[Place, Result]:
        """Place |-> the reading as conversations, all seeds together."""
        found = {place: self.at(HEADLINE, place) for place in self.places}
        return {place: pooled(results) for place, results in found.items() if results}

    def ablations(self) -> dict[Place, Result]:
        """Place |-> that reading with all runs: the first seed's."""
        return {place: result for place in self.places for result in self.at(HEADLINE, place)[:1]}

    def turns(self) -> dict[Place, Result]:
        """Place |-> the reading as turns."""
        return {place: result for place in self.places for result in self.at(TURNS, place)}

    def quoted(self) -> dict[Place, Result]:
        """Place |-> the highest load of the sweep at which the limit keeps its users waiting less than 10 s."""
        found = {}
        for place in self.places:
            borne = [result for result in self.at(LOAD, place) if _is_borne(result)]
            if borne:
                found[place] = max(borne, key=lambda result: result.case.load or 0)
        return found

    def capacities(self) -> dict[Place, tuple[float, bool]]:
        """Place |-> conversations a second that the limit can serve, and whether it could not serve more."""
        return {
            (result.case.setup, result.case.priority): capacity_of(result.runs[LIMIT]) for result in self.part(CAPACITY)
        }

    def as_json(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """The contract's object."""
        results = [result for result in self.results if result.case.part != CAPACITY]
        together = [result for result in self.headlines().values() if len(result.seeds) > 1]
        capacities: Sequence[Mapping[str, Any]] = [
            {"setup": setup, "priority": priority, "conversations_per_s": rate, "reached": reached}
            for (setup, priority), (rate, reached) in self.capacities().items()
        ]
        return {
            "schema": 1,
            "command": self.asked.command,
            "environment": dict(environment),
            "simulated": True,
            "capacities": capacities,
            "results": [result.as_json() for result in (*results, *together)],
        }


def capacity_of(figures: Mapping[str, Any]) -> tuple[float, bool]:
    """Conversations a second that a run served while somebody waited for room, and True.

    Where nobody ever waited, those that it served over all, and False: it might have served more.
    """
    served = figures["backlog"]["tokens_per_s"]
    workload = figures["workload"]
    per_token = workload["conversations"] / workload["output_tokens"]
    return float((served or figures["tokens_per_s"]) * per_token), bool(served)


def _is_borne(result: Result) -> bool:
    p99 = result.figure(LIMIT, "ttft_s", "p99")
    return p99 is not None and p99 < QUOTED_P99_S

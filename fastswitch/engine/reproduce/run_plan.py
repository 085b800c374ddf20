"""Simulates the plan, a process a core; what is done already is taken from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastswitch.engine.reproduce.case import Case, Simulation
from fastswitch.engine.reproduce.evaluation import Evaluation, Place
from fastswitch.engine.reproduce.finished import Finished
from fastswitch.engine.reproduce.outcome import Outcome, simulate
from fastswitch.engine.reproduce.plan import capacity_cases, first_cases, later_cases
from fastswitch.engine.reproduce.positions import fitting_scales
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.simulator.processes import num_cores, side_by_side

__all__ = ["OnDone", "evaluate"]

OnDone = Callable[[int, int], object]  # simulations done, and in all


def evaluate(evaluation: Evaluation, finished: Finished, on_done: OnDone) -> None:
    """Simulate everything that is asked for; what is done stays in ``evaluation`` if it is interrupted.

    Raises:
        UsageError, WorkloadError: a case cannot be simulated; before any is.
    """
    asked = evaluation.asked
    scales = fitting_scales(asked)
    known = [*capacity_cases(asked, scales), *first_cases(asked, scales)]
    # which rates the later cases have is not known yet, but how many they are
    stand_in = later_cases(asked, scales, dict.fromkeys(evaluation.places, 1.0))
    _check([*known, *stand_in])
    num_in_all = len(_simulations(known)) + len(_simulations(stand_in))

    def work(cases: Sequence[Case]) -> None:
        evaluation.cases += cases
        on_done(len(evaluation.outcomes), num_in_all)
        for simulation, outcome in _outcomes(_simulations(cases), finished):
            evaluation.outcomes[simulation] = outcome
            on_done(len(evaluation.outcomes), num_in_all)

    work(known)
    capacities: dict[Place, float] = {place: rate for place, (rate, _) in evaluation.capacities().items()}
    work(later_cases(asked, scales, capacities))


def _simulations(cases: Sequence[Case]) -> list[Simulation]:
    """Each once, in the order of the cases."""
    return list(dict.fromkeys(simulation for case in cases for simulation in case.simulations))


def _check(cases: Sequence[Case]) -> None:
    """Refuse what cannot be simulated; cases that differ in what never is refused are looked at once."""
    usual: dict[str, Any] = {"command": "", "rate": None, "priority": None, "arrival": "conversation", "think": None}
    for options in dict.fromkeys(replace(case.options, **usual) for case in cases):
        prepare_simulation(options)


def _outcomes(simulations: Sequence[Simulation], finished: Finished) -> Iterator[tuple[Simulation, Outcome]]:
    left = []
    for simulation in simulations:
        outcome = finished.find(simulation)
        if outcome is None:
            left.append(simulation)
        else:
            yield simulation, outcome
    for simulation, outcome in _simulated(left):
        finished.keep(simulation, outcome)
        yield simulation, outcome


def _simulated(simulations: Sequence[Simulation]) -> Iterator[tuple[Simulation, Outcome]]:
    if min(num_cores(), len(simulations)) <= 1:
        yield from ((simulation, simulate(simulation)) for simulation in simulations)
    else:
        yield from side_by_side(simulate, simulations)

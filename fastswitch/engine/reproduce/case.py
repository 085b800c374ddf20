"""What is simulated, as values: a case is one setting, a simulation is one run in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fastswitch.engine.option_limits import flag
from fastswitch.engine.options import SimulateOptions

__all__ = ["Case", "Simulation", "options_of"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """One run in one setting; the same one may be asked for by several cases, and is made once."""

    options: SimulateOptions
    run: str


@dataclass(frozen=True, slots=True)
class Case:
    """One setting, and the runs that are compared in it.

    Attributes:
        part: of the evaluation that it belongs to; one of the names in `plan`.
        options: of ``fastswitch simulate``; its command makes the same figures.
        runs: names.
        load: conversations offered, over what ``free_switch`` can serve; None where the rate is not derived from it.
        changed: what differs from the part's usual setting, for people; nothing where nothing does.
        value: what it was changed to.
    """

    part: str
    options: SimulateOptions
    runs: tuple[str, ...]
    load: float | None = None
    changed: str = ""
    value: float | None = None

    @property
    def simulations(self) -> tuple[Simulation, ...]:
        """One a run."""
        return tuple(Simulation(self.options, run) for run in self.runs)

    @property
    def setup(self) -> str:
        """Model and hardware."""
        return self.options.setup

    @property
    def priority(self) -> str:
        """The pattern of the levels."""
        return self.options.priority or ""

    def as_json(self) -> dict[str, Any]:
        """What the case is, without its figures."""
        return {
            "part": self.part,
            "setup": self.setup,
            "priority": self.priority,
            "arrival": self.options.arrival,
            "rate": self.options.rate,
            "load": self.load,
            "seed": self.options.seed,
            "conversations": self.options.conversations,
            "changed": self.changed,
            "value": self.value,
            "command": self.options.command,
        }


def options_of(asked: Mapping[str, Any]) -> SimulateOptions:
    """Options with the command that says them; what is None is left out."""
    given = {name: value for name, value in asked.items() if value is not None}
    usual = {each.name: each.default for each in fields(SimulateOptions)}
    said = [f"{flag(name)} {value}" for name, value in given.items() if value != usual[name]]
    return SimulateOptions(command=f"fastswitch simulate {' '.join(said)}", **given)

"""Schedules of runs in a file: a line of JSON an iteration, `sched.Decision` with the run's name before it. Ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fastswitch.engine.usage import open_output
from fastswitch.engine.workloads.lines import numbered_lines
from fastswitch.sched import Decision

__all__ = ["read_decisions", "write_decisions"]


def write_decisions(schedules: Mapping[str, Iterable[Decision]], path: Path) -> None:
    """Write run name |-> its schedule, run after run; compressed if ``path`` ends in ``.gz``.

    Raises:
        OSError: if it cannot be written.
    """
    with open_output(path) as file:
        for run, decisions in schedules.items():
            file.writelines(decision.to_json(run=run) + "\n" for decision in decisions)


def read_decisions(path: Path) -> dict[str, Sequence[Decision]]:
    """What ``write_decisions`` wrote.

    Raises:
        WorkloadError: if the file cannot be read to its end, or a line is no decision of a run; says which.
    """
    schedules: dict[str, list[Decision]] = {}
    for place, text in numbered_lines(path):
        try:
            schedules.setdefault(json.loads(text)["run"], []).append(Decision.from_json(text))
        except (ValueError, KeyError, TypeError) as error:
            raise place.error(str(error)) from None
    return dict(schedules)

"""Schedules of runs in a file: a line of JSON an iteration, `sched.Decision` with the run's name before it. Ours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastswitch.sched import Decision

__all__ = ["read_decisions", "write_decisions"]


def write_decisions(schedules: Mapping[str, Iterable[Decision]], path: Path) -> None:
    """Write run name |-> its schedule, run after run; compressed if ``path`` ends in ``.gz``.

    Raises:
        OSError: if it cannot be written.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        for run, decisions in schedules.items():
            file.writelines(decision.to_json(run=run) + "\n" for decision in decisions)


def read_decisions(path: Path) -> dict[str, Sequence[Decision]]:
    """What ``write_decisions`` wrote.

    Raises:
        OSError: if it cannot be read.
        ValueError: if a line is no decision of a run; says which.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
    schedules: dict[str, list[Decision]] = {}
    with opened(path, "rt", encoding="utf-8") as file:
        lines = enumerate(file, 1)
        while True:
            try:
                number, line = next(lines, (0, ""))
            except EOFError:
                raise ValueError(f"{path}: ends in the middle, it was not written to its end") from None
            if not number:
                break
            try:
                schedules.setdefault(json.loads(line)["run"], []).append(Decision.from_json(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: {error}") from None
    return dict(schedules)

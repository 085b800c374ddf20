"""Which runs are compared with which, in one place: the paper's system and ours, and what each is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastswitch.engine.metrics import speedup
from fastswitch.engine.runs import SIMULATED_RUNS

__all__ = ["speedups"]


def speedups(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The paper's system and ours, each over every run above it, with copies ahead, and over the limit."""
    by_name = {result["name"]: result for result in results}
    rows = [name for name in SIMULATED_RUNS if name in by_name]
    found = {}
    for position, name in enumerate(rows):
        if name in ("paper", "fastswitch"):
            bases = [
                *rows[:position],
                *(base for base in rows[position:] if base in ("fastswitch+ahead", "free_switch")),
            ]
            found.update({f"{name}/{base}": speedup(by_name[name], by_name[base]) for base in bases})
    return found

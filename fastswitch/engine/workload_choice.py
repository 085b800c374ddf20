"""The workload that a command's options name, chosen and scaled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastswitch.engine.options import ExperimentOptions
from fastswitch.engine.workloads import Workload, read_workload, select, synthetic_workload

__all__ = ["choose_workload"]

MIN_TURNS = 3  # of synthetic conversations


def choose_workload(
    options: ExperimentOptions, encode: Callable[[str], list[int]], *, conversations: int, scale: float
) -> Workload:
    """Draw or read it, then choose and scale; ``conversations`` and ``scale`` are a synthetic one's, unless asked for.

    Raises:
        WorkloadError: it is of no use.
    """
    if options.workload == "synthetic":
        drawn = synthetic_workload(
            seed=options.seed,
            conversations=options.conversations or conversations,
            min_turns=options.min_turns or MIN_TURNS,
        )
        return select(drawn, scale=scale if options.scale is None else options.scale, seed=options.seed)
    return select(
        read_workload(Path(options.workload), encode=encode, seed=options.seed),
        conversations=options.conversations,
        min_turns=options.min_turns,
        scale=1.0 if options.scale is None else options.scale,
        seed=options.seed,
    )

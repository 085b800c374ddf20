"""Recorded conversations, shortened so that the longest fits the setup.

Ours. All lengths of a trace are multiplied by one factor, so short conversations stay short beside long ones.
"""

from __future__ import annotations

from fastswitch.engine.reproduce.case import options_of
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.simulator.prepare import stand_in_tokens
from fastswitch.engine.simulator.setup import find_setup
from fastswitch.engine.workload_choice import choose_workload
from fastswitch.engine.workloads import Workload, select

__all__ = ["fitting_scales"]

STEP = 0.98  # a token is the least that a message has, so a scaled conversation may be longer than its scaled length
SCALED_SHARE = 0.999  # of the room, at first: lengths are rounded


def fitting_scales(asked: ReproduceOptions) -> dict[str, float | None]:
    """Setup |-> factor on token lengths, the same for all cases; None where nothing need be shortened.

    Raises:
        UsageError, WorkloadError: the workload is of no use.
    """
    whole = None if asked.workload == "synthetic" else _whole(asked)
    return {setup: None if whole is None else _scale(whole, _room(setup)) for setup in asked.setups}


def _whole(asked: ReproduceOptions) -> Workload:
    options = options_of(
        {"setup": asked.setups[0], "workload": asked.workload, "min_turns": asked.min_turns, "seed": asked.seed}
    )
    return choose_workload(options, stand_in_tokens, conversations=1, scale=1.0).workload


def _room(setup: str) -> int:
    """Tokens of the longest context that the model has positions for and the device's pool holds."""
    found = find_setup(setup)
    return min(found.model.max_positions, found.device_tokens)


def _scale(workload: Workload, room: int) -> float | None:
    if workload.max_context <= room:
        return None
    scale = SCALED_SHARE * room / workload.max_context
    while True:
        scale = float(f"{scale:.3g}")  # as it is said in a case's command
        if select(workload, scale=scale, seed=0).max_context <= room:
            return scale
        scale *= STEP

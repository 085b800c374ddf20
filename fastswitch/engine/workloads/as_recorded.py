"""The timing of a workload as its source has it, and the paper's setting where it has none.

Paper: FastSwitch (arXiv 2411.18424): one conversation a second, Poisson. Ours: a think time of 10 s, exponential.
"""

from __future__ import annotations

from typing import Literal

from fastswitch.engine.workloads.arrivals import ArrivalPlan, plan_arrivals
from fastswitch.engine.workloads.conversation import Workload

__all__ = ["plan_as_recorded"]

RATE = 1.0  # conversations a second
THINK_S = 10.0


def plan_as_recorded(
    workload: Workload,
    *,
    rate: float | None = None,
    arrival: Literal["conversation", "turn"] = "conversation",
    think_s: float | None = None,
    time_scale: float | None = None,
    seed: int,
) -> ArrivalPlan:
    """Plan recorded times as they are; arguments and errors as `plan_arrivals`, taken literally where given."""
    return plan_arrivals(
        workload,
        rate=rate if rate is not None or workload.records_arrivals else RATE,
        arrival=arrival,
        think_s=think_s if think_s is not None or workload.records_gaps else THINK_S,
        time_scale=1.0 if time_scale is None else time_scale,
        seed=seed,
    )

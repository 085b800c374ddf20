"""Is more asked of a run than it can serve? Then its queue, and its tail, grow for as long as the workload lasts.

Ours. Beside each other: the tokens that the plan asks for in a second, if nobody ever waited, and those that the run
generated in a second while somebody waited for room. How many conversations are alive would not say it: each waits for
its own answers, so a finite workload never gets far ahead of its engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastswitch.engine.workloads import ArrivalPlan, Workload

__all__ = ["Offered", "is_saturated", "offered_tokens"]

MIDDLE = (0.1, 0.9)  # of the tokens: the first and the last of a finite workload come more slowly
BACKLOGGED_SHARE = 0.5  # of the time: where a queue grows somebody waits for longer


@dataclass(frozen=True, slots=True)
class Offered:
    """What a plan asks for.

    Attributes:
        per_s: generated tokens.
        span_s: seconds in which all are asked for, at that pace.
    """

    per_s: float
    span_s: float


def offered_tokens(workload: Workload, plan: ArrivalPlan) -> Offered | None:
    """Of the middle of the workload, a turn's answer asked for when the turn arrives; None where all are at once."""
    asked: list[tuple[float, int]] = []
    for conversation, timing in zip(workload.conversations, plan.conversations, strict=True):
        when_s = timing.start_s
        for turn, waits in zip(conversation.turns, timing.turns, strict=True):
            when_s += (waits.gap_s or 0.0) + (waits.think_s or 0.0)
            asked.append((when_s, turn.output_tokens))
    times, tokens = np.array(sorted(asked), np.float64).T
    shares = np.cumsum(tokens) / tokens.sum()
    begin_s, end_s = (float(times[np.searchsorted(shares, share)]) for share in MIDDLE)
    span_s = (end_s - begin_s) / (MIDDLE[1] - MIDDLE[0])
    return Offered(float(tokens.sum()) / span_s, span_s) if span_s else None


def is_saturated(backlog: Mapping[str, Any], offered: Offered | None) -> bool:
    """Whether more is asked for than the run served while somebody waited, and somebody waited most of the time.

    Args:
        backlog: as `Backlog` has it.
        offered: None where all is asked for at once.
    """
    if backlog["tokens_per_s"] is None:
        return False
    if offered is None:
        return True
    return bool(backlog["tokens_per_s"] < offered.per_s and backlog["seconds"] > BACKLOGGED_SHARE * offered.span_s)

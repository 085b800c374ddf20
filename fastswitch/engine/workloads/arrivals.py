"""When conversations start and turns follow: the timing of a run, planned before it.

A plan depends on the workload, the options and the seed, never on how fast an engine is, so runs that are compared
all have the same one. What does depend on the engine is left open: a turn follows its predecessor's *arrival* after
a recorded gap, or its predecessor's *last token* after a drawn think time, and never before that token.

Each option replaces one default and nothing else. With ``span`` = seconds of work / `LOAD`, or, where no seconds of
work are given, the last start of the plan:

| | default | option, taken literally |
|---|---|---|
| starts | recorded, else drawn; stretched so that the last is at ``span`` | ``rate``, ``time_scale`` |
| gaps, where recorded | x ``span`` / recorded last start | ``think_s``, ``time_scale`` |
| think times, elsewhere | exponential, mean ``span`` / `THINKS_PER_SPAN` | ``think_s`` |

``rate`` draws the starts, even where they are recorded; ``time_scale`` multiplies what is recorded and still in use;
``think_s`` is the mean of think times, which then also stand in for recorded gaps.
Starts count from the first conversation's, which is 0. Drawn starts are a Poisson process.
Ours: where the source has gaps but no span of starts (one conversation, or no arrivals), gaps are scaled so that
those of the longest-lasting conversation add up to ``span``; where either is 0, they stay as recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fastswitch.engine.workloads.conversation import Conversation, Workload
from fastswitch.engine.workloads.draws import Purpose, stream
from fastswitch.engine.workloads.errors import WorkloadError

__all__ = [
    "LOAD",
    "THINKS_PER_SPAN",
    "ArrivalPlan",
    "ConversationTiming",
    "TurnTiming",
    "next_arrival_s",
    "plan_arrivals",
]

LOAD = 1.2  # work that arrives while conversations start, over the work that an engine can do in that time
THINKS_PER_SPAN = 10  # mean think times that fit between the first and the last start

_LEAST, _MOST = 1e-9, 1e9  # options beyond these are slips, and their products would overflow


@dataclass(frozen=True, slots=True)
class TurnTiming:
    """What a turn waits for: one of the two, or, as a conversation's first, neither.

    Attributes:
        gap_s: seconds from the previous turn's arrival.
        think_s: seconds from the previous turn's last token.
    """

    gap_s: float | None = None
    think_s: float | None = None


@dataclass(frozen=True, slots=True)
class ConversationTiming:
    """When a conversation starts, in seconds from the workload's start, and what each of its turns waits for."""

    start_s: float
    turns: tuple[TurnTiming, ...]


@dataclass(frozen=True, slots=True)
class ArrivalPlan:
    """The timing of a workload.

    Attributes:
        conversations: in order of index, as in the workload.
        gap_scale: what recorded gaps were multiplied by; None where no turn waits for a gap.
        think_mean_s: mean of the think times' distribution; None where no turn waits for one.
    """

    conversations: tuple[ConversationTiming, ...]
    gap_scale: float | None
    think_mean_s: float | None

    @property
    def last_start_s(self) -> float:
        """Start of the conversation that starts last."""
        return max(conversation.start_s for conversation in self.conversations)


def next_arrival_s(
    plan: ArrivalPlan, conversation: int, turn: int, previous_arrival_s: float, previous_end_s: float
) -> float:
    """Return when a turn arrives, in seconds of the engine's clock; never before its predecessor's last token.

    Args:
        plan: of the workload.
        conversation: index of the conversation.
        turn: index of the turn, from 1: a first turn arrives at its conversation's start.
        previous_arrival_s: when the turn before it arrived.
        previous_end_s: when that turn's last token came.

    Raises:
        WorkloadError: if ``turn`` is below 1.

    >>> plan = ArrivalPlan((ConversationTiming(0.0, (TurnTiming(), TurnTiming(gap_s=5.0))),), 1.0, None)
    >>> next_arrival_s(plan, 0, 1, previous_arrival_s=10.0, previous_end_s=12.0)
    15.0
    >>> next_arrival_s(plan, 0, 1, previous_arrival_s=10.0, previous_end_s=17.5)
    17.5
    """
    if turn < 1:
        raise WorkloadError(f"turn must be at least 1, got {turn}; a first turn arrives at its conversation's start")
    timing = plan.conversations[conversation].turns[turn]
    if timing.gap_s is not None:
        return max(previous_arrival_s + timing.gap_s, previous_end_s)
    return previous_end_s + (timing.think_s or 0.0)


def plan_arrivals(
    workload: Workload,
    *,
    rate: float | None = None,
    arrival: Literal["conversation", "turn"] = "conversation",
    think_s: float | None = None,
    time_scale: float | None = None,
    work_s: float | None = None,
    seed: int = 0,
) -> ArrivalPlan:
    """Plan the starts of conversations and the waits of turns, by the table of the module.

    Args:
        workload: what to plan; left as it is.
        rate: starts per second, on average.
        arrival: what ``rate`` counts; by ``turn`` it is divided by the mean number of turns.
        think_s: mean think time in seconds; 0 lets turns follow at once.
        time_scale: factor on recorded times.
        work_s: seconds that an engine needs for the workload; only defaults need it.
        seed: draws depend on it and on the indices of conversation and turn alone.

    Raises:
        WorkloadError: if an option is out of range, ``work_s`` is needed and missing, or ``time_scale`` has no
            recorded times to scale.
    """
    _check_options(rate=rate, think_s=think_s, time_scale=time_scale, work_s=work_s)
    if arrival not in {"conversation", "turn"}:
        raise WorkloadError(f"arrival must be conversation or turn, got {arrival!r}")
    if time_scale not in {None, 1} and not (workload.records_arrivals or workload.records_gaps):
        raise WorkloadError(f"time_scale {time_scale} finds no recorded times in {workload.name}; use rate and think_s")
    if rate is not None and arrival == "turn":
        rate /= workload.num_turns / len(workload)
    starts_s = _starts_s(workload, rate, time_scale, work_s, seed)
    span_s = max(starts_s) if work_s is None else work_s / LOAD
    gap_scale = None if think_s is not None else _gap_scale(workload, time_scale, span_s)
    think_mean_s = span_s / THINKS_PER_SPAN if think_s is None else think_s
    waits = [_waits(conversation, gap_scale, think_mean_s, seed) for conversation in workload.conversations]
    followers = [timing for turns in waits for timing in turns[1:]]
    return ArrivalPlan(
        tuple(ConversationTiming(start_s, turns) for start_s, turns in zip(starts_s, waits, strict=True)),
        gap_scale if any(timing.gap_s is not None for timing in followers) else None,
        think_mean_s if any(timing.think_s is not None for timing in followers) else None,
    )


def _check_options(**options: float | None) -> None:
    for name, value in options.items():
        least = 0 if name == "think_s" else _LEAST
        if value is not None and not least <= value <= _MOST:
            raise WorkloadError(f"{name} must be a number of {least:g} to {_MOST:g}, got {value}")


def _starts_s(
    workload: Workload, rate: float | None, time_scale: float | None, work_s: float | None, seed: int
) -> list[float]:
    if rate is not None:
        return [start / rate for start in _drawn_starts(len(workload), seed)]
    recorded = _recorded_starts_s(workload)
    if recorded is not None and time_scale is not None:
        return [start_s * time_scale for start_s in recorded]
    if work_s is None:
        raise WorkloadError("work_s must be given where neither rate nor time_scale says when conversations start")
    shape = recorded or _drawn_starts(len(workload), seed)
    last = max(shape)
    return [start / last * (work_s / LOAD) for start in shape] if last > 0 else shape


def _recorded_starts_s(workload: Workload) -> list[float] | None:
    recorded = [each.arrival_s for each in workload.conversations if each.arrival_s is not None]
    first_s = min(recorded, default=0.0)
    return [arrival_s - first_s for arrival_s in recorded] if recorded else None


def _drawn_starts(num_conversations: int, seed: int) -> list[float]:
    # one start per second on average, the first at 0
    starts = [0.0]
    for index in range(1, num_conversations):
        starts.append(starts[-1] + float(stream(seed, Purpose.ARRIVAL, index).standard_exponential()))
    return starts


def _gap_scale(workload: Workload, time_scale: float | None, span_s: float) -> float:
    if time_scale is not None:
        return time_scale
    recorded_s = max(_recorded_starts_s(workload) or [0.0])
    if recorded_s == 0:
        recorded_s = max(math.fsum(turn.gap_s or 0 for turn in each.turns) for each in workload.conversations)
    return span_s / recorded_s if recorded_s > 0 and span_s > 0 else 1.0


def _waits(
    conversation: Conversation, gap_scale: float | None, think_mean_s: float, seed: int
) -> tuple[TurnTiming, ...]:
    if len(conversation.turns) == 1:
        return (TurnTiming(),)
    # the k-th number of this stream belongs to turn k, whether or not the turn uses it
    draws = stream(seed, Purpose.THINK, conversation.index).standard_exponential(len(conversation.turns))
    waits = [TurnTiming()]
    for turn, draw in zip(conversation.turns[1:], draws[1:], strict=True):
        if gap_scale is not None and turn.gap_s is not None:
            waits.append(TurnTiming(gap_s=turn.gap_s * gap_scale))
        else:
            waits.append(TurnTiming(think_s=float(draw) * think_mean_s))
    return tuple(waits)

"""Where a run loses time to switches, in seconds each, read off its timeline.

Ours. Two things cost something while KV moves:

- *stall*: the engine stood still for copies, in seconds of the engine;
- *away*: requests that were wanted on the device and not there, in request-seconds: queued for the link, being copied,
  landed and not yet seen by an iteration, or waiting for room that a victim was still being copied out of. Divided by
  the mean number of requests in an iteration they are seconds of the engine: a smaller batch takes hardly less time.

What a full host costs is no part of a timeline: it is in the tokens that are computed again.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from fastswitch.engine.switch_record import SwitchRecord
from fastswitch.engine.timeline import Timeline
from fastswitch.memory import SwapDirection

__all__ = ["LostTime"]


@dataclass(frozen=True, slots=True)
class LostTime:
    """One run's.

    Attributes:
        mean_requests: in an iteration, averaged over time.
        stall_s: seconds of the engine.
        queued_s, copied_s, unseen_s: request-seconds of swap-ins: before and during the copy, and until an iteration
            could use what it brought.
        vacating_s: request-seconds of swap-outs, from the eviction until the room was seen; none where a return took
            the room before, whose copy was queued behind that one.
    """

    mean_requests: float
    stall_s: float
    queued_s: float
    copied_s: float
    unseen_s: float
    vacating_s: float

    @classmethod
    def of(cls, timeline: Timeline) -> LostTime:
        """Add up; copies made ahead are left out, since nobody waits for them."""
        starts = [iteration.start_s for iteration in timeline.iterations]
        spans = [(iteration.end_s - iteration.start_s, iteration.num_requests) for iteration in timeline.iterations]
        computing_s = sum(seconds for seconds, _ in spans)
        waited_for = [switch for switch in timeline.switches if switch.copied and not switch.ahead]
        returns = [switch for switch in waited_for if switch.direction is SwapDirection.SWAP_IN]
        leaving = [
            switch for switch in waited_for if switch.direction is SwapDirection.SWAP_OUT and not switch.handed_over
        ]
        return cls(
            mean_requests=sum(seconds * n for seconds, n in spans) / computing_s if computing_s else 0.0,
            stall_s=sum(stall.end_s - stall.start_s for stall in timeline.stalls),
            queued_s=sum(switch.queue_s for switch in returns),
            copied_s=sum(switch.copy_s for switch in returns),
            unseen_s=sum(_unseen_s(switch, starts) for switch in returns),
            vacating_s=sum(switch.queue_s + switch.copy_s + _unseen_s(switch, starts) for switch in leaving),
        )

    @property
    def away_s(self) -> float:
        """Seconds of the engine that the requests away would have filled."""
        away_s = self.queued_s + self.copied_s + self.unseen_s + self.vacating_s
        return away_s / self.mean_requests if self.mean_requests else 0.0


def _unseen_s(switch: SwitchRecord, starts: Sequence[float]) -> float:
    """Seconds from the end of a job's copies to the iteration that could use what they brought."""
    next_start = bisect.bisect_left(starts, switch.end_s)
    return starts[next_start] - switch.end_s if next_start < len(starts) else 0.0

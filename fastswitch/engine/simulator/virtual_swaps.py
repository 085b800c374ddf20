"""Swaps on a virtual clock: nothing is moved, but everything takes its time where it would.

Ours. The same protocol as the real ones, so that a simulation differs from the engine in this alone:

- `VirtualSwaps` stands for `SwapCoordinator`: a lane a direction, jobs of a lane one after the other; issuing copies is
  the lane's work, so the engine goes on. Waiting for a job lets the clock go to its end, and is stall.
- `VirtualInlineSwaps` stands for `InlineSwaps`: the engine's own thread issues and waits, so all of it is stall.

A copy does not slow down an iteration that runs beside it: copy engines and links have bandwidth of their own. What
`zero_copy` takes of the device's processors is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.simulator.copy_costs import CopyCosts
from fastswitch.engine.swaps import SwapReport
from fastswitch.engine.synchronous_swaps import SynchronousSwaps
from fastswitch.memory import SwapDirection, SwapJob

__all__ = ["VirtualInlineSwaps", "VirtualSwaps"]


@dataclass(frozen=True, slots=True)
class _VirtualEvent:
    """True from a moment of the virtual clock on."""

    clock: VirtualClock
    at_s: float

    def query(self) -> bool:
        """Whether the moment has come."""
        return self.clock.now() >= self.at_s

    def synchronize(self) -> None:
        """Let the clock go to the moment."""
        self.clock.sleep_until(self.at_s)

    def seconds_since(self, earlier: _VirtualEvent) -> float:
        """Between the two moments."""
        return self.at_s - earlier.at_s


@dataclass(frozen=True, slots=True)
class _Flight:
    """A job under way, and when it will be over."""

    done_s: float
    report: SwapReport
    future: Future[SwapReport]


class VirtualSwaps:
    """Copies on two lanes of their own.

    Args:
        clock: shared with the engine.
        costs: what a job takes.
        block_bytes: of a block.
    """

    def __init__(self, clock: VirtualClock, costs: CopyCosts, block_bytes: int) -> None:
        self._clock = clock
        self._costs = costs
        self._block_bytes = block_bytes
        self._lanes: dict[SwapDirection, deque[_Flight]] = {each: deque() for each in SwapDirection}
        self._idle_from_s = dict.fromkeys(SwapDirection, 0.0)  # when a lane has done all that it was given
        self._stall_s = 0.0

    @property
    def stall_s(self) -> float:
        """Seconds for which the engine stood still in ``wait``."""
        return self._stall_s

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        """Queue the job in its direction's lane; its future has the report when it has landed."""
        now = self._clock.now()
        turn_s = max(now, self._idle_from_s[job.direction])
        start_s = max(turn_s, *(self._done_s(other) for other in job.after)) if job.after else turn_s
        report, done_s = _report(self._clock, self._costs, self._block_bytes, job, start_s, now)
        report = replace(report, after_s=start_s - turn_s)
        self._idle_from_s[job.direction] = done_s
        flight = _Flight(done_s, report, Future())
        self._lanes[job.direction].append(flight)
        return flight.future

    def landed(self) -> list[SwapReport]:
        """Jobs over by now, in order of submission."""
        now, over = self._clock.now(), []
        for lane in self._lanes.values():
            while lane and lane[0].done_s <= now:
                over.append(lane.popleft())
        if not over:  # asked twice an iteration
            return []
        for flight in over:
            flight.future.set_result(flight.report)
        return [flight.report for flight in sorted(over, key=lambda flight: flight.report.job.job_id)]

    def lost(self) -> list[SwapReport]:
        """None: no copy fails."""
        return []

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Let the clock go to the end of the last of these jobs."""
        start = self._clock.now()
        wanted = set(jobs)
        ends = [flight.done_s for lane in self._lanes.values() for flight in lane if flight.report.job in wanted]
        self._clock.sleep_until(max(ends, default=start))
        self._stall_s += self._clock.now() - start

    def wait_any(self, timeout_s: float | None) -> None:
        """Let the clock go to the end of the first job, at most ``timeout_s`` on; nothing when none is under way."""
        ends = [lane[0].done_s for lane in self._lanes.values() if lane]
        if ends:
            self._clock.sleep_until(min(ends) if timeout_s is None else min(*ends, self._clock.now() + timeout_s))

    def _done_s(self, job: SwapJob) -> float:
        """When the job is over; now, if it was reported."""
        ends = (flight.done_s for lane in self._lanes.values() for flight in lane if flight.report.job is job)
        return next(ends, self._clock.now())

    def close(self) -> None:
        """Fail the futures of jobs that have not landed."""
        for lane in self._lanes.values():
            while lane:
                lane.popleft().future.set_exception(RuntimeError("closed"))


class VirtualInlineSwaps(SynchronousSwaps):
    """Copies on the engine's own thread: a job has landed when ``submit`` returns.

    Args:
        clock: shared with the engine.
        costs: what a job takes.
        block_bytes: of a block.
    """

    def __init__(self, clock: VirtualClock, costs: CopyCosts, block_bytes: int) -> None:
        def copy(job: SwapJob) -> SwapReport:
            report, done_s = _report(clock, costs, block_bytes, job, clock.now(), clock.now())
            clock.sleep_until(done_s)
            return report

        super().__init__(copy, clock)


def _report(
    clock: VirtualClock, costs: CopyCosts, block_bytes: int, job: SwapJob, start_s: float, submitted_s: float
) -> tuple[SwapReport, float]:
    """The job's report, and when it is over."""
    cost = costs.of(job)
    done_s = start_s + cost.seconds
    events = _VirtualEvent(clock, start_s), _VirtualEvent(clock, done_s)
    num_bytes = job.num_blocks * block_bytes
    queue_s = start_s - submitted_s
    report = SwapReport(job, cost.way, num_bytes, cost.copies, cost.calls, queue_s, *events, submitted_s=submitted_s)
    return report, done_s

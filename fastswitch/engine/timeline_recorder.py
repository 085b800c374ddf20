"""Notes what happens when while an engine runs; an engine that nobody records does none of this.

Ours. Called from the engine's thread alone. When copies began and ended is asked of their reports at the end, since a
device may be copying yet when a job has landed.

A job is charged with the stall while it was submitted and waited for, and with the waits of an engine in which nobody
could run: the next job to land ended them. Without a GPU that is all of the run's stall.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from fastswitch.engine.clock import Clock
from fastswitch.engine.executor import BatchEntry
from fastswitch.engine.request import Request
from fastswitch.engine.swaps import SwapReport, Swaps
from fastswitch.engine.switch_record import SwitchRecord
from fastswitch.engine.timeline import Iteration, Stall, Timeline
from fastswitch.memory import SwapDirection, SwapJob

__all__ = ["TimelineRecorder"]


@dataclass(slots=True)
class _Note:
    """A job, from its submission on."""

    request_id: int
    conversation_id: Hashable
    submitted_s: float
    reused_tokens: int
    stall_s: float = 0.0
    landed_s: float = 0.0
    handed_over: bool = False
    report: SwapReport | None = None  # None while it is under way


class TimelineRecorder:
    """Records one engine, from when it was made; ``Engine.record`` makes it.

    Args:
        clock: the engine's.
        swaps: the engine's; asked how long it stood still.
    """

    def __init__(self, clock: Clock, swaps: Swaps) -> None:
        self._clock = clock
        self._swaps = swaps
        self._iterations: list[Iteration] = []
        self._stalls: list[Stall] = []
        self._switches: list[_Note | SwitchRecord] = []  # in the order in which they were decided on
        self._under_way: dict[int, _Note] = {}  # job_id |-> what is known of it
        self._submitting: tuple[_Note, float] | None = None  # and the swaps' stall before
        self._waited_s = 0.0  # for the next job to land

    def ran(self, start_s: float, end_s: float, batch: Sequence[BatchEntry]) -> None:
        """An iteration is over."""
        self._iterations.append(Iteration(start_s, end_s, len(batch), sum(entry.num_tokens for entry in batch)))

    def waited(self, start_s: float, end_s: float) -> None:
        """Somebody wanted to run, nobody could, and the engine waited for any copy."""
        if end_s > start_s:
            self._waited_s += end_s - start_s
            self._stalls.append(Stall(start_s, end_s, None))

    def submits(self, request: Request, job: SwapJob, reused_tokens: int) -> None:
        """The engine is about to submit the job."""
        note = _Note(request.request_id, request.conversation_id, self._clock.now(), reused_tokens)
        self._switches.append(note)
        self._under_way[job.job_id] = note
        for reader in job.after:
            if reader.job_id in self._under_way:
                self._under_way[reader.job_id].handed_over = True
        self._submitting = note, self._swaps.stall_s

    def goes_on(self) -> None:
        """The engine is done with the job that it submitted last, be it that it waited for it."""
        if self._submitting is None:
            return
        (note, stall_before_s), self._submitting = self._submitting, None
        now = self._clock.now()
        # a wait of a GPU's stream, of an earlier job, may just have become known: the host did not stand still for it
        stood_s = min(self._swaps.stall_s - stall_before_s, now - note.submitted_s)
        if stood_s > 0:
            note.stall_s = stood_s
            self._stalls.append(Stall(now - stood_s, now, note.request_id))

    def landed(self, report: SwapReport) -> None:
        """A job has ended, in whatever way."""
        note = self._under_way.pop(report.job.job_id, None)
        if note is None:  # submitted before anybody recorded
            return
        note.landed_s = self._clock.now()
        note.stall_s += self._waited_s
        self._waited_s = 0.0
        note.report = report

    def evicted(self, request: Request, way: str, reused_tokens: int = 0) -> None:
        """A request has left the device without a copy: ``way`` is `CLEAN` or `DROPPED`."""
        now, out = self._clock.now(), SwapDirection.SWAP_OUT
        self._switches.append(
            SwitchRecord(request.request_id, request.conversation_id, out, way, now, now, reused_tokens=reused_tokens)
        )

    def timeline(self) -> Timeline:
        """All of it so far, as a value; waits for copies that have landed but are not over on a device."""
        switches = [record for each in self._switches for record in _records(each)]
        switches = _one_after_the_other(sorted(switches, key=lambda record: record.start_s))
        return Timeline(tuple(self._iterations), tuple(self._stalls), tuple(switches))


def _one_after_the_other(switches: Sequence[SwitchRecord]) -> list[SwitchRecord]:
    """A device begins a copy that was enqueued early when the one before it in its direction is over."""
    end_s = dict.fromkeys(SwapDirection, 0.0)
    found = []
    for record in switches:
        early_s = end_s[record.direction] - record.start_s if record.copied else 0.0
        found.append(replace(record, queue_s=record.queue_s + early_s) if early_s > 0 else record)
        if record.copied:
            end_s[record.direction] = found[-1].end_s
    return found


def _records(switch: _Note | SwitchRecord) -> list[SwitchRecord]:
    """The switch's record; none while it is under way."""
    if isinstance(switch, SwitchRecord):
        return [switch]
    return [] if switch.report is None else [_record(switch, switch.report)]


def _record(note: _Note, report: SwapReport) -> SwitchRecord:
    job = report.job
    return SwitchRecord(
        note.request_id,
        note.conversation_id,
        job.direction,
        report.way,
        # by the swaps' own account where there is one, so that copies of a direction do not overlap
        submitted_s=note.submitted_s if report.copy_start is None else report.submitted_s,
        landed_s=note.landed_s,
        num_blocks=job.num_blocks,
        num_bytes=report.num_bytes,
        num_runs=job.num_runs,
        copies=report.copies,
        calls=report.calls,
        queue_s=report.queue_s,
        copy_s=report.copy_s,
        stall_s=note.stall_s,
        reused_tokens=note.reused_tokens,
        error=None if report.error is None else f"{type(report.error).__name__}: {report.error}",
        ahead=job.ahead,
        after=len(job.after),
        handed_over=note.handed_over,
    )

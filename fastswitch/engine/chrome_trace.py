"""Timelines as Chrome trace events, which https://ui.perfetto.dev opens: a process a run, a thread a lane.

Ours; the format is Google's "Trace Event Format". Times are whole nanoseconds of the run's own clock, written in
microseconds as the format wants them.

Lanes: ``compute`` has iterations and stalls, ``swap-out`` and ``swap-in`` have each job from its copies' start to their
end. What copied nothing, evictions and failed jobs, is a moment on its lane. Within a lane events come in order, and
spans do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastswitch.engine.switch_record import SwitchRecord
from fastswitch.engine.timeline import Iteration, Stall, Timeline
from fastswitch.engine.usage import open_output
from fastswitch.memory import SwapDirection

__all__ = ["COMPUTE", "LANES", "SWAP_IN", "SWAP_OUT", "trace_events", "write_trace"]

COMPUTE, SWAP_OUT, SWAP_IN = LANES = ("compute", "swap-out", "swap-in")
_LANE_OF = {SwapDirection.SWAP_OUT: SWAP_OUT, SwapDirection.SWAP_IN: SWAP_IN}
ROUNDING_NS = 2  # of a start and of the end before it; more than that would be a real overlap, and stays one

Event = dict[str, Any]


def trace_events(timelines: Mapping[str, Timeline]) -> Iterator[Event]:
    """The events of all runs: first a run's names, then its lanes.

    Args:
        timelines: run name |-> what happened.
    """
    for pid, (name, timeline) in enumerate(timelines.items(), 1):
        yield _metadata(pid, None, "process_name", name=name)
        yield _metadata(pid, None, "process_sort_index", sort_index=pid)
        for position, lane in enumerate(LANES):
            yield _metadata(pid, _tid(pid, lane), "thread_name", name=lane)
            yield _metadata(pid, _tid(pid, lane), "thread_sort_index", sort_index=position)
        yield from _lane(pid, COMPUTE, [*map(_iteration, timeline.iterations), *map(_stall, timeline.stalls)])
        for direction, lane in _LANE_OF.items():
            switches = [record for record in timeline.switches if record.direction is direction]
            yield from _lane(pid, lane, map(_switch, switches))


def write_trace(timelines: Mapping[str, Timeline], path: Path, about: Mapping[str, str]) -> None:
    """Write a trace file, an event a line; compressed if ``path`` ends in ``.gz``.

    Args:
        timelines: run name |-> what happened.
        path: of the file.
        about: facts for whoever opens it, such as the command.

    Raises:
        OSError: if it cannot be written.
        ValueError: if a time is not finite.
    """
    with open_output(path) as file:
        file.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(dict(about)) + ',\n"traceEvents": [\n')
        between = ""
        for event in trace_events(timelines):
            file.write(between + json.dumps(event, allow_nan=False))
            between = ",\n"
        file.write("\n]}\n")


def _tid(pid: int, lane: str) -> int:
    """No two runs share one, and none is a pid: viewers take such a thread for the process's main one."""
    return 1000 + 10 * pid + LANES.index(lane)


def _metadata(pid: int, tid: int | None, what: str, **args: str | int) -> Event:
    thread = {} if tid is None else {"tid": tid}
    return {"ph": "M", "pid": pid, **thread, "name": what, "args": args}


def _iteration(iteration: Iteration) -> tuple[int, int | None, Event]:
    args = {"requests": iteration.num_requests, "tokens": iteration.num_tokens}
    return _ns(iteration.start_s), _ns(iteration.end_s), {"name": "iteration", "args": args}


def _stall(stall: Stall) -> tuple[int, int | None, Event]:
    args = {"request": stall.request_id} if stall.request_id is not None else {"nobody could run": True}
    return _ns(stall.start_s), _ns(stall.end_s), {"name": "stall", "cname": "terrible", "args": args}


def _switch(record: SwitchRecord) -> tuple[int, int | None, Event]:
    conversation = record.conversation_id
    args: Event = {
        "request": record.request_id,
        "conversation": conversation if isinstance(conversation, (int, str, type(None))) else str(conversation),
        "way": record.way,
        "reused_tokens": record.reused_tokens,
    }
    name = record.way
    if record.copied or record.error is not None:
        args |= {
            "blocks": record.num_blocks,
            "bytes": record.num_bytes,
            "runs": record.num_runs,
            "copies": record.copies,
            "calls": record.calls,
            "submitted_s": record.submitted_s,
            "queue_s": record.queue_s,
            "copy_s": record.copy_s,
            "stall_s": record.stall_s,
            "landed_s": record.landed_s,
        }
    if record.after:
        args["after"] = record.after
    if record.error is not None:
        args["error"] = record.error
    if record.copied:
        name = f"request {record.request_id}" + (", ahead" if record.ahead else "")
        return _ns(record.start_s), _ns(record.end_s), {"name": name, "args": args}
    return _ns(record.landed_s), None, {"name": name, "args": args}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _lane(pid: int, lane: str, spans: Iterable[tuple[int, int | None, Event]]) -> Iterator[Event]:
    """The lane's events in order; an end that rounding moved past the next start is moved back."""
    tid, free_from = _tid(pid, lane), 0
    for start, end, event in sorted(spans, key=lambda span: span[:1]):
        where = {"cat": lane, "pid": pid, "tid": tid}
        if end is None:
            yield {"ph": "i", "s": "t", **event, **where, "ts": start / 1000}
            continue
        begin = free_from if start < free_from <= start + ROUNDING_NS else start
        free_from = max(begin, end)
        yield {"ph": "X", **event, **where, "ts": begin / 1000, "dur": (free_from - begin) / 1000}

"""What must hold of a trace that somebody is to open: a viewer draws a broken one without a word.

Ours, after the "Trace Event Format": fields by phase, order and no overlap within a lane, a name for everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["TraceError", "check_trace"]

FIELDS = {
    "M": {"name", "pid", "args"},
    "X": {"name", "pid", "tid", "ts", "dur"},
    "i": {"name", "pid", "tid", "ts", "s"},
}
NAMES = {"process_name", "thread_name", "process_sort_index", "thread_sort_index"}
SLACK_US = 0.0005  # half a nanosecond: what a double leaves of a microsecond in the millions of seconds

Lane = tuple[int, int]


class TraceError(ValueError):
    """A trace that is none; the message has the event's position and what is wrong with it."""


def check_trace(trace: Mapping[str, Any]) -> None:
    """Check a trace as it was read from its file.

    Raises:
        TraceError: a field is missing or no number, a time is negative, a lane's events are out of order or overlap, or
            a process or a thread has no name.
    """
    events = trace.get("traceEvents")
    if not isinstance(events, list):
        raise TraceError("traceEvents must be a list")
    named: set[tuple[str, int, int | None]] = set()
    lanes: dict[Lane, tuple[float, float]] = {}  # lane |-> start of its last event, end of its last span
    for position, event in enumerate(events):
        try:
            _check_fields(event)
            if event["ph"] == "M":
                _note_name(event, named)
            else:
                _check_time(event, lanes)
        except TraceError as error:
            raise TraceError(f"event {position}: {error}") from None
    for pid, tid in lanes:
        for name in (("process_name", pid, None), ("thread_name", pid, tid)):
            if name not in named:
                raise TraceError(f"pid {pid}, tid {tid} has no {name[0]}")
    _check_strict(trace)


def _check_fields(event: Mapping[str, Any]) -> None:
    phase = event.get("ph")
    if phase not in FIELDS:
        raise TraceError(f"ph must be one of {', '.join(FIELDS)}, got {phase!r}")
    missing = FIELDS[phase] - set(event)
    if missing:
        raise TraceError(f"ph {phase} needs {', '.join(sorted(missing))}")
    for name in ("pid", "tid"):
        if name in event and type(event[name]) is not int:
            raise TraceError(f"{name} must be an integer, got {event[name]!r}")
    for name in ("ts", "dur"):
        value = event.get(name, 0)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise TraceError(f"{name} must be a number of at least 0, got {value!r}")


def _note_name(event: Mapping[str, Any], named: set[tuple[str, int, int | None]]) -> None:
    name = event["name"]
    if name not in NAMES:
        raise TraceError(f"metadata must be one of {', '.join(sorted(NAMES))}, got {name!r}")
    value = "sort_index" if name.endswith("sort_index") else "name"
    if value not in event["args"]:
        raise TraceError(f"{name} needs args.{value}")
    tid = event.get("tid") if name.startswith("thread") else None
    if (name, event["pid"], tid) in named:
        raise TraceError(f"pid {event['pid']}, tid {tid} has a second {name}")
    named.add((name, event["pid"], tid))


def _check_time(event: Mapping[str, Any], lanes: dict[Lane, tuple[float, float]]) -> None:
    lane = event["pid"], event["tid"]
    start, before = event["ts"], lanes.get(lane, (0.0, 0.0))
    if start < before[0]:
        raise TraceError(f"starts at {start}, before the event in front of it at {before[0]}")
    end = before[1]
    if event["ph"] == "X":
        if start < end - SLACK_US:
            raise TraceError(f"starts at {start}, before its lane is free at {end}")
        end = start + event["dur"]
    lanes[lane] = start, end


def _check_strict(trace: Mapping[str, Any]) -> None:
    try:
        json.dumps(trace, allow_nan=False)
    except ValueError as error:
        raise TraceError(f"not strict JSON: {error}") from None

"""The check of traces finds what is wrong with one, and says where."""

from __future__ import annotations

import re

import pytest

from fastswitch.engine.trace_check import TraceError, check_trace


def named(pid=1, tid=11):
    return [
        {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": "run"}},
        {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": "lane"}},
    ]


def span(ts, dur, **more):
    return {"ph": "X", "pid": 1, "tid": 11, "name": "span", "ts": ts, "dur": dur} | more


def instant(ts, **more):
    return {"ph": "i", "pid": 1, "tid": 11, "name": "moment", "s": "t", "ts": ts} | more


def without(event, field):
    return {name: value for name, value in event.items() if name != field}


def test_a_whole_one_passes():
    inside = [span(0, 2.5), instant(1), span(2.5, 0), span(2.5, 1), instant(9.0)]
    check_trace({"traceEvents": [*named(), *inside]})
    check_trace({"traceEvents": [*named(), *named(2, 12), span(5, 5), span(0, 99, pid=2, tid=12), span(10, 1)]})


def test_half_a_nanosecond_is_no_overlap():
    check_trace({"traceEvents": [*named(), span(0.1, 0.2), span(0.3, 1)]})


BROKEN = {
    "no list": ({"traceEvents": {}}, "traceEvents must be a list"),
    "no events": ({}, "traceEvents must be a list"),
    "unknown phase": ([*named(), span(0, 1, ph="B")], "event 2: ph must be one of M, X, i, got 'B'"),
    "no phase": ([without(span(0, 1), "ph")], "event 0: ph must be one of M, X, i, got None"),
    "no length": ([*named(), without(span(0, 1), "dur")], "event 2: ph X needs dur"),
    "no start": ([*named(), without(instant(0), "ts")], "event 2: ph i needs ts"),
    "no thread and no name": ([*named(), without(without(span(0, 1), "tid"), "name")], "event 2: ph X needs name, tid"),
    "no scope": ([*named(), without(instant(0), "s")], "event 2: ph i needs s"),
    "a lane by its name": ([*named(), span(0, 1, tid="compute")], "event 2: tid must be an integer, got 'compute'"),
    "negative length": ([*named(), span(0, -1)], "event 2: dur must be a number of at least 0, got -1"),
    "negative start": ([*named(), span(-0.5, 1)], "event 2: ts must be a number of at least 0, got -0.5"),
    "start as text": ([*named(), span("0", 1)], "event 2: ts must be a number of at least 0, got '0'"),
    "start is no number": ([*named(), span(float("nan"), 1)], "event 2: ts must be a number of at least 0, got nan"),
    "endless": ([*named(), span(0, float("inf"))], "event 2: dur must be a number of at least 0, got inf"),
    "overlap": ([*named(), span(0, 2), span(1.5, 2)], "event 3: starts at 1.5, before its lane is free at 2"),
    "overlap behind an instant": (
        [*named(), span(0, 2), instant(1), span(1.5, 2)],
        "event 4: starts at 1.5, before its lane is free at 2",
    ),
    "out of order": ([*named(), span(5, 1), span(0, 1)], "event 3: starts at 0, before the event in front of it at 5"),
    "instant out of order": (
        [*named(), span(5, 1), instant(4)],
        "event 3: starts at 4, before the event in front of it at 5",
    ),
    "no process name": ([*named()[1:], span(0, 1)], "pid 1, tid 11 has no process_name"),
    "no thread name": ([*named()[:1], span(0, 1)], "pid 1, tid 11 has no thread_name"),
    "another's thread name": ([*named(), *named(2, 12), span(0, 1, tid=12)], "pid 1, tid 12 has no thread_name"),
    "named twice": ([*named(), *named()], "event 2: pid 1, tid None has a second process_name"),
    "unknown metadata": (
        [{"ph": "M", "pid": 1, "name": "colour", "args": {}}],
        (
            "event 0: metadata must be one of process_name, process_sort_index, thread_name, thread_sort_index, "
            "got 'colour'"
        ),
    ),
    "a name without one": (
        [{"ph": "M", "pid": 1, "name": "process_name", "args": {}}],
        "event 0: process_name needs args.name",
    ),
    "NaN in the arguments": (
        [*named(), span(0, 1, args={"queue_s": float("nan")})],
        "not strict JSON: Out of range float values are not JSON compliant",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_refused_with_its_place(case):
    trace, message = BROKEN[case]
    with pytest.raises(TraceError, match=re.escape(message)):
        check_trace(trace if isinstance(trace, dict) else {"traceEvents": trace})

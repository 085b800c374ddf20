"""Timelines as trace events: times to the nanosecond, a thread a lane, and nothing that a viewer would trip over."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.engine.chrome_trace import COMPUTE, LANES, SWAP_IN, SWAP_OUT, trace_events, write_trace
from fastswitch.engine.switch_record import DROPPED, SwitchRecord
from fastswitch.engine.timeline import Iteration, Stall, Timeline
from fastswitch.engine.trace_check import check_trace
from tests.engine.simulator.small_bed import IN, OUT
from tests.engine.simulator.test_worked_by_hand import ASYNCHRONOUS, SYNCHRONOUS
from tests.engine.test_timeline_recorder import exchanged

SECOND = 1e6  # in microseconds


def lanes_of(events):
    """(process name, lane) |-> its events as (phase, name, start and length in seconds)."""
    names = {
        (e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["name"] in ("process_name", "thread_name")
    }
    lanes = {(names[pid, None], name): [] for (pid, tid), name in names.items() if tid is not None}
    for event in events:
        if event["ph"] != "M":
            lane = names[event["pid"], None], names[event["pid"], event["tid"]]
            span = event["ts"] / SECOND, event.get("dur", 0) / SECOND
            lanes[lane].append((event["ph"], event["name"], *span))
    return lanes


@pytest.mark.parametrize("run", [SYNCHRONOUS, ASYNCHRONOUS])
def test_the_trace_of_an_exchange_of_two_is_what_was_worked_out_by_hand(run):
    _, timeline = exchanged(run)
    events = list(trace_events({run.name: timeline}))
    check_trace({"traceEvents": events})
    # 0-2 low; 2-4 low's 2 blocks go out; 4-7 high; 7-9 low's 2 blocks come back; 9-13 low
    assert lanes_of(events) == {
        (run.name, COMPUTE): [
            *(("X", "iteration", at, 1) for at in (0, 1)),
            ("X", "stall", 2, 2),
            *(("X", "iteration", at, 1) for at in (4, 5, 6)),
            ("X", "stall", 7, 2),
            *(("X", "iteration", at, 1) for at in (9, 10, 11, 12)),
        ],
        (run.name, SWAP_OUT): [("X", "request 0", 2, 2)],
        (run.name, SWAP_IN): [("X", "request 0", 7, 2)],
    }
    by_name = {event["name"]: event for event in events}
    assert by_name["iteration"]["args"] == {"requests": 1, "tokens": 1}
    assert by_name["stall"]["args"] == ({"request": 0} if run is SYNCHRONOUS else {"nobody could run": True})
    assert by_name["request 0"]["args"] == {
        "request": 0,
        "conversation": None,
        "way": "per_block",
        "reused_tokens": 0,
        "blocks": 2,
        "bytes": 32,
        "runs": 1,
        "copies": 2,
        "calls": 2,
        "submitted_s": 7.0,
        "queue_s": 0.0,
        "copy_s": 2.0,
        "stall_s": 2.0,
        "landed_s": 9.0,
    }


def test_runs_and_lanes_have_names_and_stand_in_order():
    empty = Timeline((), (), ())
    events = list(trace_events({"paper": empty, "fastswitch": empty}))
    assert list(lanes_of(events)) == [(run, lane) for run in ("paper", "fastswitch") for lane in LANES]
    assert [e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"] == [1, 2]
    assert [e["args"]["sort_index"] for e in events if e["name"] == "thread_sort_index"] == [0, 1, 2] * 2
    threads = {event["tid"] for event in events if "tid" in event}
    assert len(threads) == 6
    assert not threads & {event["pid"] for event in events}


def test_what_copied_nothing_is_an_instant_and_says_why():
    drop = SwitchRecord(4, ("a", 1), OUT, DROPPED, 2.0, 2.0)
    failed = SwitchRecord(5, "talk", IN, "failed", 1.0, 3.0, num_blocks=7, error="OSError: on fire")
    events = list(trace_events({"run": Timeline((), (), (failed, drop))}))
    check_trace({"traceEvents": events})
    first, second = (event for event in events if event["ph"] == "i")
    assert (first["name"], first["ts"], first["s"]) == ("dropped", 2 * SECOND, "t")
    assert first["args"] == {"request": 4, "conversation": "('a', 1)", "way": "dropped", "reused_tokens": 0}
    assert (second["name"], second["ts"], second["args"]["blocks"]) == ("failed", 3 * SECOND, 7)
    assert second["args"]["error"] == "OSError: on fire"


SPANS = st.lists(st.sampled_from([0.0, 1e-9, 1.7e-6, 1 / 3, 0.1, 1234.567]) | st.floats(0, 1e4), max_size=40)


@given(SPANS, st.floats(0, 1e5), st.floats(0, 1e3))
def test_whatever_rounding_does_no_two_of_a_lane_overlap(lengths, begin_s, before_s):
    """Spans without a gap, whose starts are known as a moment and a time after it."""
    edges = list(itertools.accumulate(lengths, initial=begin_s))
    iterations = tuple(Iteration(start, end, 1, 1) for start, end in itertools.pairwise(edges))
    stalls = (Stall(edges[-1], edges[-1] + 1 / 3, None),)
    submitted_s = max(0.0, begin_s - before_s)
    switches = tuple(
        SwitchRecord(0, 0, OUT, "w", submitted_s, end, queue_s=start - submitted_s, copy_s=end - start)
        for start, end in itertools.pairwise(edges)
    )
    events = list(trace_events({"run": Timeline(iterations, stalls, switches)}))
    check_trace({"traceEvents": events})
    for event in events:
        if event["ph"] == "X":
            assert round(event["ts"] * 1000) == pytest.approx(event["ts"] * 1000, abs=0.1), "whole nanoseconds"


def test_copies_that_do_overlap_are_not_straightened():
    switches = [SwitchRecord(i, i, OUT, "w", float(i), 9.0, copy_s=1.5) for i in range(2)]
    events = list(trace_events({"run": Timeline((), (), tuple(switches))}))
    assert lanes_of(events)["run", SWAP_OUT] == [("X", "request 0", 0.0, 1.5), ("X", "request 1", 1.0, 1.5)]
    with pytest.raises(ValueError, match="before its lane is free"):
        check_trace({"traceEvents": events})


@pytest.mark.parametrize("name", ["t.json", "t.json.gz", "T.JSON.GZ"])
def test_the_file_is_strict_json_and_compressed_if_its_name_says_so(tmp_path, name):
    _, timeline = exchanged(SYNCHRONOUS)
    write_trace({"a": timeline, "b": timeline}, tmp_path / name, {"command": 'say "so"'})
    data = (tmp_path / name).read_bytes()
    trace = json.loads(gzip.decompress(data) if name.lower().endswith("gz") else data)
    assert trace["otherData"] == {"command": 'say "so"'}
    assert trace["traceEvents"] == list(trace_events({"a": timeline, "b": timeline}))
    check_trace(trace)


def test_a_trace_of_nothing_is_one_too(tmp_path):
    write_trace({}, tmp_path / "t.json", {})
    check_trace(json.loads((tmp_path / "t.json").read_text()))


def test_a_time_that_is_none_is_refused(tmp_path):
    switch = SwitchRecord(0, 0, OUT, "w", 0.0, float("nan"), copy_s=1.0)
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_trace({"run": Timeline((), (), (switch,))}, tmp_path / "t.json", {})

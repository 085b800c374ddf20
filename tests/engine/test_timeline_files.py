"""``--trace-out`` and ``--timeline`` from outside: the files, what an interrupt leaves, and mistakes."""

from __future__ import annotations

import gzip
import json

import pytest

from fastswitch.engine import experiment
from fastswitch.engine.simulator import simulate_command
from fastswitch.engine.trace_check import check_trace

POOL = ["--conversations", "4", "--scale", "0.02", "--device-tokens", "100", "--block-size", "4", "--frequency", "0.5"]
SETUP = ["simulate", "--setup", "llama8b-a10"]


def read_trace(path):
    """The trace, checked."""
    data = path.read_bytes()
    trace = json.loads(gzip.decompress(data) if path.name.endswith(".gz") else data)
    check_trace(trace)
    return trace


def runs_of(trace):
    return [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [["bench"], SETUP])
def test_both_files_are_written_and_agree_with_the_json(run, tmp_path, command):
    files = ["--json", tmp_path / "o.json", "--trace-out", tmp_path / "t.json.gz", "--timeline", tmp_path / "t.png"]
    status, _, err = run(*command, *POOL, "--runs", "+groups,fastswitch", *files)
    assert (status, err) == (0, "")
    assert is_png(tmp_path / "t.png")
    trace, result = read_trace(tmp_path / "t.json.gz"), json.loads((tmp_path / "o.json").read_text())
    assert trace["otherData"]["command"] == result["command"]
    assert runs_of(trace) == ["+groups", "fastswitch"]
    for pid, figures in enumerate(result["runs"], 1):
        events = [event for event in trace["traceEvents"] if event["pid"] == pid and event["ph"] == "X"]
        switches = figures["switches"]
        assert sum(event["name"] == "iteration" for event in events) == figures["iterations"]
        assert sum(event["cat"] == "swap-out" for event in events) == switches["swap_outs"] > 0
        assert sum(event["cat"] == "swap-in" for event in events) == switches["swap_ins"]
        for name in ("runs", "copies", "calls", "copy_s", "queue_s", "stall_s"):
            assert sum(event["args"].get(name, 0) for event in events) == pytest.approx(switches[name]), name


def test_workers_send_their_timelines(run, monkeypatch, tmp_path):
    command = [*SETUP, *POOL, "--runs", "fastswitch,recompute", "--trace-out", tmp_path / "t.json"]
    traces = []
    for short_tokens in (10**9, 0):  # here, and in processes
        monkeypatch.setattr(simulate_command, "SHORT_TOKENS", short_tokens)
        assert run(*command)[::2] == (0, "")
        traces.append(read_trace(tmp_path / "t.json"))
    assert traces[0] == traces[1]
    assert runs_of(traces[0]) == ["fastswitch", "recompute"]


@pytest.mark.parametrize("command", [["bench"], SETUP])
def test_an_interrupt_keeps_what_was_recorded(run, monkeypatch, tmp_path, command):
    real, served = experiment.Experiment.serve, []

    def interrupted(self, spec, progress):
        if served:
            raise KeyboardInterrupt
        served.append(spec.name)
        return real(self, spec, progress)

    monkeypatch.setattr(experiment.Experiment, "serve", interrupted)
    files = ["--trace-out", tmp_path / "t.json", "--timeline", tmp_path / "t.png"]
    status, _, err = run(*command, *POOL, "--runs", "paper,fastswitch", *files)
    assert (status, err) == (130, "fastswitch: interrupted\n")
    assert runs_of(read_trace(tmp_path / "t.json")) == ["paper"]
    assert is_png(tmp_path / "t.png")


def test_an_interrupt_before_the_first_run_is_done_writes_nothing(run, monkeypatch, tmp_path):
    def interrupted(self, spec, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.Experiment, "serve", interrupted)
    files = ["--trace-out", tmp_path / "t.json", "--timeline", tmp_path / "t.png"]
    assert run(*SETUP, *POOL, *files)[0] == 130
    assert not list(tmp_path.iterdir())


def test_who_asks_for_neither_file_records_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment.Engine, "record", None)
    assert run(*SETUP, *POOL, "--runs", "fastswitch", "--json", tmp_path / "o.json")[0] == 0


MISTAKES = {
    "trace is no JSON": (["--trace-out", "t.txt"], "--trace-out must name a .json or .json.gz file, got t.txt"),
    "trace is another archive": (["--trace-out", "t.gz"], "--trace-out must name a .json or .json.gz file, got t.gz"),
    "timeline is no PNG": (["--timeline", "t.json"], "--timeline must name a .png file, got t.json"),
    "figures and trace in one": (
        ["--json", "x.json", "--trace-out", "x.json"],
        "--json and --trace-out must be two files, got x.json twice",
    ),
    "figures and trace in one, by two names": (
        ["--json", "x.json", "--trace-out", "y/../x.json"],
        "--json and --trace-out must be two files, got x.json twice",
    ),
    "two pictures in one": (
        ["--plot", "x.png", "--timeline", "./x.png"],
        "--plot and --timeline must be two files, got x.png twice",
    ),
    "trace nowhere": (
        ["--trace-out", "/nowhere/t.json"],
        "cannot write /nowhere/t.json: No such file or directory; choose another path",
    ),
    "timeline nowhere": (
        ["--timeline", "/nowhere/t.png"],
        "cannot write /nowhere/t.png: No such file or directory; choose another path",
    ),
}


@pytest.mark.parametrize("command", [["bench"], SETUP])
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(run, monkeypatch, tmp_path, command, case):
    monkeypatch.chdir(tmp_path)
    args, message = MISTAKES[case]
    assert run(*command, *args) == (2, "", f"fastswitch: {message}\n")
    assert not list(tmp_path.iterdir())

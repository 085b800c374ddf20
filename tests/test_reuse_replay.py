"""The replay at full scale, in miniature: its figures hang together, and mistakes are told in one line."""

import importlib
import json
from pathlib import Path

import pytest

from fastswitch.engine.workloads import synthetic_workload

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {
    "--conversations": "10",
    "--scale": "0.1",
    "--device-tokens": "700",
    "--host-tokens": "20000,1500",
    "--block-size": "4",
    "--frequency": "0.2",
}


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("reuse_replay").main


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Lengths alone, as a file."""
    path = tmp_path_factory.mktemp("traces") / "lengths.jsonl"
    with path.open("w") as file:
        for conversation in synthetic_workload(seed=1, conversations=12).conversations:
            turns = [[turn.input_tokens, turn.output_tokens, 0, 0] for turn in conversation.turns]
            record = {"conv_id": conversation.index, "part": 0, "lead_tokens": 0, "turns": turns}
            file.write(json.dumps(record) + "\n")
    return path


def arguments(trace, **changed):
    options = SMALL | {"--workload": str(trace)} | {f"--{name.replace('_', '-')}": v for name, v in changed.items()}
    return [str(word) for option in options.items() for word in option]


def figures(path):
    result = json.loads(path.read_text())
    environment = result.pop("environment")
    result.pop("command")
    return result, environment


def test_figures_hang_together_and_come_again(command, trace, tmp_path, capsys):
    for name in ("one.json", "two.json"):
        assert command(arguments(trace, json=tmp_path / name)) == 0
    out, err = capsys.readouterr()
    result, environment = figures(tmp_path / "one.json")
    again, _ = figures(tmp_path / "two.json")
    assert result == again
    assert not err
    runs = {run["name"]: run for run in result["runs"]}
    assert list(runs) == ["20000 reuse", "20000 no reuse", "1500 reuse", "1500 no reuse"] == list(environment["wall_s"])
    assert result["workload"]["conversations"] == 10
    for run in runs.values():
        switches = run["switches"]
        assert (
            switches["runs_out"] + switches["runs_in"]
            == switches["runs"]
            <= switches["blocks_out"] + switches["blocks_in"]
        )
        assert run["peak_host_blocks"] <= run["host_blocks"] == run["host_tokens"] // 4
        assert bool(switches["reused_tokens"]) == run["reuse"]
        assert run["iterations"] > 0
        assert switches["drops"] or not switches["recomputed_tokens"]
    roomy, none = runs["20000 reuse"]["switches"], runs["20000 no reuse"]["switches"]
    assert 0 < roomy["blocks_out"] < none["blocks_out"]
    assert roomy["drops"] == none["drops"] == 0
    assert [each["host_tokens"] for each in result["targets"]] == [20000, 1500, 1500]
    first = result["targets"][0]
    assert (first["reuse"], first["no_reuse"]) == (roomy["blocks_out"], none["blocks_out"])
    assert first["met"] == (2 * roomy["blocks_out"] <= none["blocks_out"])
    assert str(roomy["blocks_out"]) in out
    assert f"{first['target']}: {'met' if first['met'] else 'MISSED'}" in out


@pytest.mark.parametrize(("rate", "verdict"), [("0.001", "steady"), ("100", "SATURATED, queues grow")])
def test_queues_that_grow_are_told(command, trace, capsys, rate, verdict):
    assert command(arguments(trace, rate=rate, host_tokens=20000)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines if "conversations open at the last start" in line] == [verdict] * 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"host_tokens": "1,x"}, "--host-tokens must be whole numbers with commas between them, got 'x'"),
        ({"host_tokens": "3"}, "--host-tokens must be at least one block of 4 tokens, got 3"),
        ({"host_tokens": "0"}, "--host-tokens must be a number of at least 1 and at most 1e+09, got 0"),
        ({"device_tokens": "8"}, "--device-tokens 8 is too small for the longest conversation"),
        ({"rate": "0"}, "--rate must be a number above 0 and at most 1e+09, got 0"),
        ({"rate": "fast"}, "argument --rate: invalid float value: 'fast' (see --help)"),
        ({"priority": "fair"}, "--priority must be random, markov, or a file, no file is 'fair'"),
        ({"min_turns": "99"}, "min_turns 99 leaves none of the 12 conversations of lengths.jsonl"),
        ({"workload": "missing.jsonl"}, "missing.jsonl"),
        ({"json": "missing/out.json"}, "cannot write missing/out.json: No such file or directory; choose another path"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(command, trace, capsys, changed, message):
    assert command(arguments(trace, **changed)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("reuse_replay: ")
    assert message in err
    assert err.count("\n") == 1

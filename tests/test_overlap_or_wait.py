"""The rules that say whether a copy is overlapped, compared: the arithmetic, and the command in miniature."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fastswitch.engine import AdaptiveSwap, AlwaysOverlap, AlwaysWait
from fastswitch.engine.runs import RUNS
from tests.engine.simulator.small_bed import make_bed

SMALL = ["--conversations", "12", "--scale", "0.2", "--device-tokens", "1600", "--rate", "5", "--seeds", "3"]


@pytest.fixture
def module(load, in_this_process):
    module = load("overlap_or_wait")
    in_this_process(module)
    return module


def test_figures_are_relative_to_the_adaptive_rules(load):
    found = load("rule_figures").relative(
        {"adaptive": {"a": 4.0, "b": 0.0, "c": None}, "wait": {"a": 5.0, "b": 3.0, "c": 1.0}}
    )
    assert found == {"adaptive": {"a": 1.0, "b": None, "c": None}, "wait": {"a": 1.25, "b": None, "c": None}}


def test_what_is_compared_is_read_off_a_runs_object(load):
    tail = {"p50": 1.0, "p95": 2.0, "p99": None}
    run = {"tokens_per_s": 9.0, "ttft_s": tail, "tbt_s": tail, "switches": {"stall_s": 0.5}}
    assert load("rule_figures").figures_of(run) == {
        "tokens_per_s": 9.0,
        "ttft_p50_s": 1.0,
        "ttft_p95_s": 2.0,
        "tbt_p99_s": None,
        "stall_s": 0.5,
    }


def test_over_seeds_a_relative_figure_is_the_median(module):
    results = [{"setup": "x", "relative": {"wait": {"a": value, "b": value}}} for value in (3.0, 1.0, 2.0)]
    results += [{"setup": "y", "relative": {"wait": {"a": 9.0, "b": None}}}]
    assert module.over_seeds(results, "x", "wait", "a") == 2.0
    assert module.over_seeds(results, "y", "wait", "a") == 9.0
    assert module.over_seeds(results, "y", "wait", "b") is None


@pytest.mark.parametrize("rule", [AlwaysOverlap, AlwaysWait, AdaptiveSwap])
def test_a_simulated_engine_asks_the_rule_of_its_run(rule):
    asked = []

    class Asked(rule):
        def choose(self, direction, num_blocks):
            asked.append(super().choose(direction, num_blocks))
            return asked[-1]

    with make_bed(device_blocks=4, block_size=4).engine(replace(RUNS["fastswitch"], rule=Asked)) as engine:
        turns = [engine.turn(engine.submit(range(9), 5, priority=1 - index)) for index in range(2)]
        while not all(turn.ended for turn in turns):
            if not engine.step():
                engine.wait_for_work()
    assert asked


def test_the_simulations_in_miniature(module, tmp_path, capsys):
    path = tmp_path / "rules.json"
    arguments = [*SMALL, "--where", "simulator", "--setups", "qwen32b-a100", "--json", str(path)]
    assert module.main(arguments) == 0
    data = json.loads(path.read_text())
    (result,) = data["results"]
    figures = result["figures"]
    assert (result["setup"], result["seed"]) == ("qwen32b-a100", 3)
    assert list(figures) == ["adaptive", "overlap, paced", "overlap", "wait"]
    assert figures["wait"]["stall_s"] > figures["overlap"]["stall_s"], "who waits stands still"
    for rule, relative in result["relative"].items():
        assert relative["tokens_per_s"] == figures[rule]["tokens_per_s"] / figures["adaptive"]["tokens_per_s"]
    out = capsys.readouterr().out
    assert "overlap, paced" in out
    assert "median" in out


def test_the_model_in_miniature(module, load, monkeypatch, tmp_path, capsys):
    demo = {"scale": 0.01, "block_size": 4, "device_tokens": 64, "runs": "fastswitch"}
    monkeypatch.setattr(load("demo_copies"), "DEMO", demo)
    path = tmp_path / "rules.json"
    arguments = ["--where", "engine", "--engine-conversations", "3", "--rounds", "1", "--others", "1", "--seeds", "0"]
    assert module.main([*arguments, "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    assert result["link"]["emulated"]
    assert all(each["quiet_rounds"] == 1 for each in result["measured"].values())
    assert all(each["tokens_per_s"] > 0 for each in result["figures"].values())
    assert result["relative"]["adaptive"]["tokens_per_s"] == 1.0
    assert "quiet rounds of adaptive 1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1,x"], "--seeds must be whole numbers with commas between them"),
        (["--setups", "gpt-a10"], "--setup must be MODEL-HARDWARE"),
        (["--where", "moon"], "argument --where: invalid choice: 'moon'"),
        (["--rounds", "0"], "--rounds must be a number of at least 1 and at most 1000, got 0"),
        (["--others", "-1"], "--others is a share, at least 0 and at most 1, got -1"),
        (["--rate", "-1"], "--rate must be a number above 0"),
        (["--json", "missing/x.json"], "cannot write missing/x.json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(module, capsys, arguments, message):
    assert module.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"overlap_or_wait: {message}")
    assert err.count("\n") == 1

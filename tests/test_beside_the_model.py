"""Model and copies beside each other: the arithmetic of the figures, and the command in miniature; no timings."""

from __future__ import annotations

import json

import numpy as np
import pytest

# others


def test_busy_is_all_but_idle_waiting_and_what_is_counted_twice(load):
    stat = "cpu  1 20 300 5000 70000 400000 2000000 30000000 9 9\ncpu0 7 7 7 7 7 7 7 7 7 7\n"
    assert load("others").busy_s(stat, ticks_per_s=10) == (1 + 20 + 300 + 400000 + 2000000 + 30000000) / 10


def test_what_others_took_is_what_was_busy_and_not_ours(load):
    module = load("others")
    before = module.Reading(wall_s=10.0, busy_s=100.0, own_s=5.0)
    after = module.Reading(wall_s=14.0, busy_s=106.0, own_s=9.0)
    assert module.others_share(before, after, cores=2) == 0.25  # 6 busy, 4 ours, of 8
    ours_alone = module.Reading(wall_s=14.0, busy_s=103.99, own_s=9.0)
    assert module.others_share(before, ours_alone, cores=2) == 0.0, "ticks are coarse"
    a_tick_too_many = module.Reading(wall_s=10.001, busy_s=100.01, own_s=5.0)
    assert module.others_share(before, a_tick_too_many, cores=2) == 1.0


def test_where_nothing_tells_it_is_said(load, monkeypatch, tmp_path):
    module = load("others")
    monkeypatch.setattr(module, "STAT", tmp_path / "stat")
    with pytest.raises(Exception, match="^a quiet machine is told by .*stat, which is not here$"):
        module.read()


def test_this_process_is_not_others(load):
    module = load("others")
    before = module.read()
    assert module.read().own_s >= before.own_s
    assert before.busy_s > 0


# quiet rounds


@pytest.fixture
def machine(load, monkeypatch):
    """Rounds of a machine that is as loud as it is told: shares of the others, one a round."""
    module = load("quiet_rounds")

    def told(shares):
        left = iter(shares)
        monkeypatch.setattr(module, "read", lambda: None)
        monkeypatch.setattr(module, "others_share", lambda *_: next(left))
        return module

    return told


def test_loud_rounds_do_not_count(machine):
    module = machine([0.0, 0.5, 0.05, 0.051, 0.01])
    values = iter([10.0, 1000.0, 30.0, 2000.0, 20.0])
    (samples,) = module.measure_in_turn({"a": lambda: {"x": next(values)}}, rounds=3, most_others=0.05).values()
    assert samples.median("x") == 20.0
    assert samples.as_json() == {
        "median": {"x": 20.0},
        "quiet_rounds": 3,
        "others": [0.0, 0.5, 0.05, 0.051, 0.01],
        "rounds": [{"x": 10.0}, {"x": 30.0}, {"x": 20.0}],
    }


def test_without_a_quiet_round_there_is_no_figure(machine):
    module = machine([1.0] * 100)
    (samples,) = module.measure_in_turn({"a": lambda: {"x": 1.0}}, rounds=4).values()
    assert samples.median("x") is None
    assert len(samples.others) == 4 * module.MOST_TRIES
    assert samples.as_json()["median"] is None


def test_a_figure_that_a_round_lacks_is_none(machine):
    module = machine([0.0] * 2)
    values = iter([None, 1.0])
    (samples,) = module.measure_in_turn({"a": lambda: {"x": next(values)}}, rounds=2).values()
    assert samples.median("x") is None


def test_sides_take_turns_in_alternating_order_until_each_has_its_rounds(machine):
    # a loud machine in the second turn of the first round: "b" lacks one and has it alone
    module = machine([0.0, 1.0, 0.0, 0.0, 0.0])
    order = []
    sides = {name: lambda name=name: order.append(name) or {"x": 1.0} for name in "ab"}
    found = module.measure_in_turn(sides, rounds=2)
    assert order == ["a", "b", "b", "a", "b"]
    assert [len(samples.quiet) for samples in found.values()] == [2, 2]


# targets


@pytest.mark.parametrize(
    ("figure", "bound", "word"),
    [
        (0.95, {"least": 0.95}, "reached"),
        (0.9499, {"least": 0.95}, "MISSED"),
        (0.03, {"most": 0.03}, "reached"),
        (0.0301, {"most": 0.03}, "MISSED"),
        (None, {"least": 0.95}, "not measured"),
        (None, {"most": 0.03}, "not measured"),
    ],
)
def test_a_bound_may_be_touched(load, figure, bound, word):
    target = load("targets").Target("x", figure, **bound)
    assert target.word == target.as_json()["verdict"] == word


# copies


@pytest.mark.parametrize(("num_blocks", "num_runs", "places"), [(125, 4, 4), (5, 2, 2), (7, 1, 3)])
def test_jobs_fall_into_runs_that_neither_touch_nor_overlap(load, num_blocks, num_runs, places):
    jobs = load("unbroken_copies").scattered_runs(num_blocks, num_runs, places)
    assert len(jobs) == places
    assert all(len(runs) == num_runs and runs[:, 2].sum() == num_blocks for runs in jobs)
    blocks = np.sort(np.concatenate([np.arange(start, start + n + 1) for runs in jobs for start, _, n in runs]))
    assert len(np.unique(blocks)) == len(blocks), "a block beyond each run is nobody's"
    assert all((runs[:, 0] == runs[:, 1]).all() for runs in jobs)


def test_an_iteration_counts_if_it_ended_before_the_copies_did(load, monkeypatch):
    module = load("unbroken_copies")
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)

    def iterate():
        nonlocal now
        now += 0.25

    assert module.iterations_a_second(iterate, lambda: now > 1.0) == 4.0
    now = 0.0
    assert module.iterations_a_second(iterate, lambda: now > 0.75) == 4.0, "three whole ones in 0.75 s"
    now = 0.0
    assert module.iterations_a_second(iterate, lambda: True) == 4.0, "the first one, if none did"


@pytest.mark.parametrize("num_in_flight", [0, 1, 8])
def test_jobs_stand_still_while_the_clock_runs_and_one_is_reported(load, num_in_flight):
    from fastswitch.memory import KVLayout

    cost = load("swap_cost").SwapCost(KVLayout(num_layers=2, num_kv_heads=1, head_dim=2, block_size=2, dtype="float64"))
    try:
        for _ in range(2):  # a second time is like the first
            cost.prepare(num_in_flight)
            assert cost.once() == 1
            assert len(cost._swaps._flights) == num_in_flight + 1
    finally:
        cost.close()


# the command


def test_the_command_in_miniature(load, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where `chosen` keeps what it measured
    module = load("beside_the_model")
    monkeypatch.setattr(module, "RESIDENTS", 2)
    monkeypatch.setattr(module, "ASKED", 2)
    monkeypatch.setattr(load("paced_copies"), "LOOP_S", 0.05)
    monkeypatch.setattr(load("unbroken_copies"), "COPYING_S", 0.02)
    monkeypatch.setattr(
        load("demo_copies"),
        "DEMO",
        {"conversations": 3, "scale": 0.01, "block_size": 4, "device_tokens": 64, "runs": "fastswitch"},
    )
    path = tmp_path / "beside.json"
    assert module.main(["--rounds", "1", "--others", "1", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["environment"]["torch_threads"] == 1
    assert result["command"].startswith("python benchmarks/beside_the_model.py --rounds 1")
    assert 0 <= result["demo"]["copy_share"] < 1
    assert (result["demo"]["copy_share"] > 0) == (result["demo"]["jobs"] > 0)
    ways = [(each["order"], each["way"]) for each in result["without_a_pause"]]
    assert ways == list(module.WAYS.values())
    assert [each["in_flight"] for each in result["engine_thread"]] == [0, 1, 8]
    for target in result["targets"]:
        assert (target["figure"] is None) == (target["verdict"] == "not measured")
    pieces, *others = (each["median"] for each in result["without_a_pause"])
    figures = [target["figure"] for target in result["targets"]]
    assert figures[0] == result["at_the_demos_share"]["median"]["model"]
    assert figures[1:7] == [each[side] / pieces[side] for each in others for side in ("model", "copy")]
    assert figures[7:] == [each["median"]["share"] for each in result["engine_thread"]]
    assert "at the demo's share" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds must be a number of at least 1 and at most 1000, got 0"),
        (["--others", "2"], "--others is a share, at least 0 and at most 1, got 2"),
        (["--json", "missing/x.json"], "cannot write missing/x.json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(load, capsys, arguments, message):
    assert load("beside_the_model").main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"beside_the_model: {message}")
    assert err.count("\n") == 1

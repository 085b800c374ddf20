"""The scripts that ask the simulator what decides the tails, and where the time goes, in miniature."""

import json

import pytest

SMALL = ["--conversations", "12", "--scale", "0.2", "--device-tokens", "1600", "--rate", "5"]


def test_the_gap_to_the_limit_is_what_its_parts_say(load, in_this_process, tmp_path, capsys):
    module = load("where_time_goes")
    in_this_process(module)
    path = tmp_path / "where.json"
    assert module.main([*SMALL, "--call-us", "5000", "--seeds", "3", "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    free, run, ahead, no_reuse, roomy = result["runs"]
    assert result["seed"] == 3
    assert [each["name"] for each in result["runs"]] == [
        "free_switch",
        "fastswitch",
        "fastswitch+ahead",
        "fastswitch, no reuse",
        "fastswitch, roomy host",
    ]
    assert free["stall_s"] == free["recomputed_tokens"] == 0
    assert free["away_s"] < 1e-3  # what the decisions take that let somebody in
    assert run["stall_s"] > 0
    assert run["unseen_s"] > 0
    assert run["copied_s"] > 0
    assert run["seconds"] == roomy["seconds"], "the host of 60 GB is never full here"
    waits = {each["name"]: each["queued_s"] + each["vacating_s"] for each in (run, ahead, no_reuse)}
    assert waits["fastswitch, no reuse"] > waits["fastswitch"], "what is not on the host yet has to be copied out"
    out = capsys.readouterr().out
    assert f"fastswitch takes {run['seconds'] - free['seconds']:.1f} s longer than free_switch" in out


def test_one_thing_is_changed_at_a_time(load, in_this_process, monkeypatch, tmp_path, capsys):
    module = load("what_decides_tails")
    in_this_process(module)
    monkeypatch.setitem(module.CHANGES, "dispatch, us a call", ("call_us", (0.0, 1000.0)))
    path = tmp_path / "tails.json"
    assert module.main([*SMALL, "--only", "dispatch", "--json", str(path)]) == 0
    points = json.loads(path.read_text())["points"]
    assert [(each["value"], each["run"]) for each in points] == [(v, run) for v in (0.0, 1000.0) for run in module.RUNS]
    by_point = {(each["value"], each["run"]): each for each in points}
    for run in ("recompute", "free_switch"):
        assert by_point[0.0, run]["seconds"] == by_point[1000.0, run]["seconds"], "who copies nothing pays no call"
    assert by_point[1000.0, "vllm_0_3"]["stall_s"] > 10 * by_point[1000.0, "fastswitch"]["stall_s"]
    assert "dispatch, us a call" in capsys.readouterr().out


def test_prompts_in_pieces_are_set_beside_whole_ones(load, in_this_process, tmp_path, capsys):
    module = load("chunked_prefill")
    in_this_process(module)
    files = ["--json", str(tmp_path / "c.json"), "--plot", str(tmp_path / "c.png")]
    small = ["--setup", "llama8b-a10", "--conversations", "30", "--rate", "3", "--budgets", "64,512"]
    assert module.main([*small, *files]) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    whole, short, long = result["points"]
    assert [(each["packer"], each["token_budget"]) for each in result["points"]] == [
        ("prefill-first", 8192),
        ("chunked", 64),
        ("chunked", 512),
    ]
    tails = [each["tbt_resident_s"]["p99.9"] for each in (whole, long, short)]
    assert tails[0] > 2 * tails[1] > 2 * tails[2], "the shorter the pieces, the shorter an iteration"
    assert result["run"] == "fastswitch"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert f"{tails[0] / tails[1]:.1f}" in capsys.readouterr().out


def test_two_clients_get_equal_shares_where_residency_follows_the_counters(
    load, in_this_process, monkeypatch, tmp_path, capsys
):
    module = load("fair_shares")
    in_this_process(module)
    rows = [module.Row("fastswitch", "vtc"), module.Row("fastswitch", "vtc-preemptive", 16)]
    monkeypatch.setattr(module, "rows", lambda: rows)
    path, picture = tmp_path / "fair.json", tmp_path / "fair.png"
    assert module.main(["--seconds", "20", "--json", str(path), "--plot", str(picture)]) == 0
    published, preemptive = json.loads(path.read_text())["rows"]
    assert published["gap_over_vtc"] == 1
    assert preemptive["gap_over_vtc"] < 0.5
    assert preemptive["tokens_per_s_over_vtc"] > 0.95
    assert picture.stat().st_size > 1000
    assert "vtc-preemptive" in capsys.readouterr().out


FEW = {"scale": 0.2, "device_tokens": 1600, "host_tokens": 16_000, "rate": 5.0}


def test_the_cheapest_switch_beside_the_two_that_it_chooses_from(load, in_this_process, monkeypatch, tmp_path, capsys):
    module, pooled = load("cheapest_switch"), load("pooled")
    in_this_process(pooled)
    monkeypatch.setattr(module, "PLACES", {"here": {"setup": "llama8b-a10", **FEW}})
    monkeypatch.setattr(module, "GBPS", (0.02, 60.0))
    path, picture = tmp_path / "cheapest.json", tmp_path / "cheapest.png"
    arguments = ["--conversations", "30", "--seeds", "0", "--json", str(path), "--plot", str(picture)]
    assert module.main(arguments) == 0
    slow, fast = json.loads(path.read_text())["rows"]
    assert (slow["gbps"], fast["gbps"]) == (0.02, 60.0)
    assert slow["recompute_p95_s"] == fast["recompute_p95_s"] < slow["swap-out_p95_s"]
    assert fast["cheapest_p95_s"] == fast["swap-out_p95_s"], "a fast link is always taken"
    assert fast["recomputed_share"] == 0 < slow["recomputed_share"]
    assert slow["over_the_better"] == slow["cheapest_p95_s"] / slow["recompute_p95_s"]
    assert picture.stat().st_size > 1000
    assert "at most 1.05 of the better one: " in capsys.readouterr().out


def test_a_threshold_saves_switches(load, in_this_process, monkeypatch, tmp_path, capsys):
    module, pooled = load("hysteresis"), load("pooled")
    in_this_process(pooled)
    monkeypatch.setattr(module, "PLACES", {"here": {"setup": "llama8b-a10", **FEW}})
    monkeypatch.setattr(module, "THRESHOLDS", {"min_levels": (0, 3), "min_stay": (10_000,)})
    path, picture = tmp_path / "hysteresis.json", tmp_path / "hysteresis.png"
    arguments = ["--conversations", "30", "--seeds", "0", "--json", str(path), "--plot", str(picture)]
    assert module.main(arguments) == 0
    rows = json.loads(path.read_text())["rows"]
    named = {(row["threshold"], row["value"], row["victims"]): row["figures"] for row in rows}
    assert len(named) == 6
    for victims in module.CHOICES:
        without, levels, stay = (named[threshold, value, victims] for threshold, value in MEANT)
        assert without["switches"] > levels["switches"]
        assert without["switches"] > stay["switches"]
    assert rows[0]["over_the_first"]["switches"] == 1
    assert picture.stat().st_size > 1000
    assert "least-bytes" in capsys.readouterr().out


MEANT = (("min_levels", 0), ("min_levels", 3), ("min_stay", 10_000))


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("where_time_goes", ["--seeds", "1,x"], "--seeds must be whole numbers with commas between them"),
        ("where_time_goes", ["--setup", "gpt-a10"], "--setup must be MODEL-HARDWARE"),
        ("cheapest_switch", ["--seeds", "1,x"], "--seeds must be whole numbers with commas between them"),
        ("cheapest_switch", ["--only", "nowhere"], "argument --only: invalid choice"),
        ("hysteresis", ["--conversations", "0"], "--conversations must be a number of at least 1"),
        ("hysteresis", ["--plot", "missing/x.png"], "cannot write missing/x.png"),
        ("what_decides_tails", ["--only", "weather"], "--only must be the first word of one of "),
        ("what_decides_tails", ["--rate", "-1"], "--rate must be a number above 0"),
        (
            "chunked_prefill",
            ["--budgets", "8,x"],
            "--budgets must be whole numbers with commas between them, got '8,x'",
        ),
        ("fair_shares", ["--seconds", "1"], "--seconds must be a number of at least 10 and at most 10000, got 1"),
        ("chunked_prefill", ["--budgets", "0"], "--token-budget must be a number of at least 1"),
        ("chunked_prefill", ["--run", "vllm"], "--run must be one of recompute, "),
        ("what_decides_tails", ["--json", "missing/x.json"], "cannot write missing/x.json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(load, capsys, script, arguments, message):
    assert load(script).main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"{script}: {message}")
    assert err.count("\n") == 1

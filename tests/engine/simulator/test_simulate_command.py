"""``fastswitch simulate`` from outside: what it prints, what it writes, how it ends."""

from __future__ import annotations

import functools
import json

import pytest

from fastswitch.engine.policy_choices import RANKERS
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator import simulate_command

SETUP = ["--setup", "llama8b-a10"]
SMALL = [*SETUP, "--conversations", "6", "--scale", "0.02", "--device-tokens", "100", "--block-size", "4"]
SMALL += ["--frequency", "0.5", "--think", "0.1", "--rate", "20", "--host-tokens", "4000"]

# By hand, as `fastswitch calibrate --json` writes it
ONE_WAY = {"per_run": {"job_s": 1e-5, "run_bytes": [4096, 1 << 20], "run_s": [1e-6, 1e-4]}}
TABLE = {"machine": {"device": "a drawing board"}, "ways": {"device_to_host": ONE_WAY, "host_to_device": ONE_WAY}}


@pytest.fixture
def simulate(run):
    """``fastswitch simulate`` in this process."""
    return functools.partial(run, "simulate")


def test_all_runs_are_compared_and_the_json_is_what_the_contract_says(simulate, tmp_path):
    files = ["--json", tmp_path / "s.json", "--plot", tmp_path / "s.png"]
    status, out, err = simulate(*SMALL, "--check", *files)
    assert (status, err) == (0, "")
    assert out.startswith(
        "simulated, nothing was run: Llama-3-8B on A10, PCIe 4.0 x16, at 75 TFLOP/s, 480 GB/s, an iteration 3 ms "
        "besides | link 25.6 GB/s, 10 us a call | synthetic: 6 conversations, "
    )
    for name in SIMULATED_RUNS:
        assert name in out
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "s.json").read_text())
    assert result["schema"] == 1
    assert result["command"].startswith("fastswitch simulate --setup llama8b-a10 --conversations 6")
    assert result["simulated"] is True
    assert (result["setup"]["name"], result["setup"]["model"]["num_layers"]) == ("llama8b-a10", 32)
    assert result["setup"]["hardware"]["source"] == "NVIDIA A10 data sheet; the paper's host"
    assert result["assumed"] == {
        "compute_share": 0.6,
        "memory_share": 0.8,
        "link_share": 0.8,
        "iteration_ms": 3.0,
        "decision_us": 1.0,
        "call_us": 10.0,
    }
    assert result["link"] == {
        "call_us": pytest.approx(10),
        "gbps": pytest.approx(25.6),
        "gather_gbps": pytest.approx(240),
    }
    assert result["pools"] == {"block_size": 4, "device_blocks": 25, "host_blocks": 1000}
    assert result["policy"]["frequency"] == 0.5
    assert result["left_out"] == {}
    assert result["workload"]["name"] == "synthetic"
    assert [entry["name"] for entry in result["runs"]] == list(SIMULATED_RUNS)
    assert len({entry["tokens_sha256"] for entry in result["runs"]}) == 1
    for entry in result["runs"]:
        check_run(entry, result["workload"])
    by_name = {entry["name"]: entry["switches"] for entry in result["runs"]}
    assert by_name["recompute"]["drops"] > 0
    assert by_name["vllm_0_3"]["swap_ins"] > 0
    # 32 layers x (K and V) pieces a block
    assert by_name["vllm_0_3"]["calls"] == 64 * (by_name["vllm_0_3"]["blocks_out"] + by_name["vllm_0_3"]["blocks_in"])
    assert by_name["free_switch"]["stall_s"] == by_name["free_switch"]["calls"] == 0
    assert set(result["speedup"]) == {
        *(f"paper/{name}" for name in [*SIMULATED_RUNS][:6]),
        *(f"fastswitch/{name}" for name in [*SIMULATED_RUNS][:7]),
        *(f"{ours}/{name}" for ours in ("paper", "fastswitch") for name in ("fastswitch+ahead", "free_switch")),
    }
    assert set(result["speedup"]["fastswitch/free_switch"]) == {
        "ttft_p90",
        "ttft_p95",
        "ttft_p99",
        "ttft_p99.9",
        "tbt_p99.9",
        "tbt_resident_p99.9",
        "tokens_per_s",
    }
    assert result["speedup"]["fastswitch/free_switch"]["tokens_per_s"] <= 1


def check_run(entry, workload):
    assert set(entry) == {
        *("name", "ttft_s", "tbt_s", "tbt_resident_s", "tokens_per_s", "seconds", "iterations"),
        *("backlog", "switches", "memory", "tokens_sha256"),
    }
    assert {
        *("swap_outs", "swap_ins", "clean_evictions", "drops", "bytes_out", "bytes_in", "copies", "calls"),
        *("blocks_per_copy", "stall_s", "reused_tokens", "recomputed_tokens"),
    } <= set(entry["switches"])
    for metric in ("ttft_s", "tbt_s", "tbt_resident_s"):
        assert set(entry[metric]) == {"n", "p50", "p90", "p95", "p99", "p99.9", "max"}
    assert entry["ttft_s"]["n"] == workload["turns"]
    assert entry["tbt_s"]["n"] == workload["output_tokens"] - workload["turns"]
    assert entry["tokens_per_s"] == pytest.approx(workload["output_tokens"] / entry["seconds"])
    assert entry["memory"]["block_bytes"] == 4 * 131_072
    assert 0 < entry["memory"]["device"]["num_owned_max"] <= 25


def test_the_setup_brings_pools_and_frequency_and_options_take_their_place(simulate, tmp_path):
    few = ["--conversations", "1", "--scale", "0.01", "--runs", "free_switch", "--json", tmp_path / "s.json"]
    assert simulate("--setup", "qwen32b-a100", *few)[0] == 0
    result = json.loads((tmp_path / "s.json").read_text())
    assert result["pools"] == {"block_size": 16, "device_blocks": 25_000 // 16, "host_blocks": 228_881 // 16}
    assert result["policy"]["frequency"] == 0.02
    options = ["--compute-share", "0.5", "--memory-share", "0.4", "--iteration-ms", "7", "--link-gbps", "3"]
    status, out, _ = simulate(*SETUP, *few, *options, "--call-us", "2.5", "--host-tokens", "1600")
    assert status == 0
    assert "at 62.5 TFLOP/s, 240 GB/s, an iteration 7 ms besides | link 3 GB/s, 2.5 us a call" in out
    result = json.loads((tmp_path / "s.json").read_text())
    assert result["pools"]["host_blocks"] == 100
    assert result["policy"]["frequency"] == 0.04
    assert result["link"]["gbps"] == 3
    simulate(*SETUP, *few, "--link-share", "0.5")
    assert json.loads((tmp_path / "s.json").read_text())["link"]["gbps"] == pytest.approx(16)


def test_the_same_arguments_give_the_same_json_in_this_process_or_in_others(simulate, tmp_path, monkeypatch):
    command = [*SMALL, "--runs", "fastswitch,vllm_0_3,free_switch", "--json", tmp_path / "s.json"]
    results = []
    for short_tokens in (10**9, 10**9, 0):  # here, here again, and in processes
        monkeypatch.setattr(simulate_command, "SHORT_TOKENS", short_tokens)
        if not short_tokens:
            monkeypatch.setattr(simulate_command.Experiment, "serve", None)  # nothing is served here
        status, out, err = simulate(*command)
        assert (status, err) == (0, "")
        result = json.loads((tmp_path / "s.json").read_text())
        assert result.pop("environment")
        results.append((result, out))
    assert results[0] == results[1] == results[2]
    assert [entry["name"] for entry in results[2][0]["runs"]] == ["fastswitch", "vllm_0_3", "free_switch"]


def test_another_seed_gives_other_figures(simulate, tmp_path):
    digests = set()
    for seed in (0, 1):
        path = tmp_path / f"{seed}.json"
        assert simulate(*SMALL, "--runs", "fastswitch", "--seed", seed, "--json", path)[0] == 0
        digests.add(json.loads(path.read_text())["runs"][0]["seconds"])
    assert len(digests) == 2


def test_a_calibration_stands_in_for_the_link_and_runs_whose_way_it_lacks_are_left_out(simulate, tmp_path):
    table = tmp_path / "costs.json"
    table.write_text(json.dumps(TABLE))
    status, out, err = simulate(*SMALL, "--calibration", table, "--json", tmp_path / "s.json")
    assert (status, err) == (0, "")
    assert "copies as calibrated on a drawing board" in out
    assert "run modern left out: the calibration has no way batched: it has per_run" in out
    result = json.loads((tmp_path / "s.json").read_text())
    assert [entry["name"] for entry in result["runs"]] == [name for name in SIMULATED_RUNS if name != "modern"]
    assert result["left_out"] == {"modern": "the calibration has no way batched: it has per_run"}
    assert result["link"] == {"calibrated": TABLE}
    ways = {entry["name"]: set(entry["switches"]["ways"]) for entry in result["runs"]}
    assert ways["fastswitch"] == {"per_run"}
    assert ways["vllm_0_3"] == {"per_block"}


def test_a_token_of_a_text_stands_for_four_bytes(simulate, tmp_path):
    # 1 byte: 1 token; 4: 1; 5: 2; "é" has 2 bytes, five of them 10: 3 tokens
    turns = [["a", "abcd"], ["abcd", "abcdefghi"], ["abcde", "a"], ["ééééé", "a"]]
    path = tmp_path / "trace"
    path.write_text(json.dumps({"row": 0, "task": "T", "turns": turns}) + "\n")
    status, _, err = simulate(*SETUP, "--workload", path, "--runs", "free_switch", "--json", tmp_path / "s.json")
    assert (status, err) == (0, "")
    workload = json.loads((tmp_path / "s.json").read_text())["workload"]
    assert workload["input_tokens"] == 1 + 1 + 2 + 3
    assert workload["output_tokens"] == 1 + 3 + 1 + 1


def test_an_interrupt_keeps_what_is_done(simulate, monkeypatch, tmp_path):
    real, served = simulate_command.Experiment.serve, []

    def interrupted(self, run, progress):
        if served:
            raise KeyboardInterrupt
        served.append(run.name)
        return real(self, run, progress)

    monkeypatch.setattr(simulate_command.Experiment, "serve", interrupted)
    path = tmp_path / "s.json"
    status, out, err = simulate(*SMALL, "--runs", "paper,fastswitch", "--json", path, "--plot", tmp_path / "s.png")
    assert (status, err) == (130, "fastswitch: interrupted\n")
    assert "paper" in out
    assert [entry["name"] for entry in json.loads(path.read_text())["runs"]] == ["paper"]
    assert (tmp_path / "s.png").exists()


def test_an_interrupt_before_the_first_run_is_done_writes_nothing(simulate, monkeypatch, tmp_path):
    def interrupted(self, run, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate_command.Experiment, "serve", interrupted)
    status, out, err = simulate(*SMALL, "--json", tmp_path / "s.json")
    assert (status, out, err) == (130, "", "fastswitch: interrupted\n")
    assert not (tmp_path / "s.json").exists()


def test_check_looks_at_every_step(simulate, monkeypatch):
    from fastswitch.engine import experiment

    seen = []
    monkeypatch.setattr(experiment.InvariantChecker, "check", lambda self: seen.append(self))
    assert simulate(*SMALL, "--runs", "free_switch")[0] == 0
    assert seen == []
    assert simulate(*SMALL, "--runs", "free_switch", "--check")[0] == 0
    assert len(seen) > 50


POLICY_UNKNOWN = f"--policy must be one of {', '.join(RANKERS)}, got 'lottery'"
MISTAKES = {
    "no setup": ([], "Missing option '--setup'. (see fastswitch --help)"),
    "unknown setup": (
        ["--setup", "llama9b-a10"],
        (
            "--setup must be MODEL-HARDWARE with a model of llama8b, qwen32b, llama70b, llama70b-fp8 and hardware of "
            "a10, a100, h100, h200, gh200, got 'llama9b-a10'"
        ),
    ),
    "weights that do not fit": (
        ["--setup", "llama70b-a10"],
        (
            "--setup llama70b-a10: the weights have 141 GB, 90% of the device's memory are 22 GB: take a smaller model "
            "or a larger device"
        ),
    ),
    "compute above its peak": (
        [*SETUP, "--compute-share", "1.01"],
        "--compute-share is a share of a peak, at most 1, got 1.01",
    ),
    "memory above its peak": ([*SETUP, "--memory-share", "2"], "--memory-share is a share of a peak, at most 1, got 2"),
    "link above its peak": ([*SETUP, "--link-share", "80"], "--link-share is a share of a peak, at most 1, got 80"),
    "nothing of the peak": (
        [*SETUP, "--compute-share", "0"],
        "--compute-share must be a number above 0 and at most 1e+09, got 0",
    ),
    "an iteration before its start": (
        [*SETUP, "--iteration-ms", "-1"],
        "--iteration-ms must be a number of at least 0 and at most 1e+09, got -1",
    ),
    "calibration and call": (
        [*SETUP, "--calibration", "x.json", "--call-us", "3", "--link-share", "1"],
        "--calibration brings the link's costs: leave out --call-us and --link-share",
    ),
    "calibration and bandwidth": (
        [*SETUP, "--calibration", "x.json", "--link-gbps", "3"],
        "--calibration brings the link's costs: leave out --link-gbps",
    ),
    "two bandwidths": (
        [*SETUP, "--link-share", "0.5", "--link-gbps", "3"],
        "--link-gbps is what the link achieves: leave out --link-share",
    ),
    "no calibration there": (
        [*SETUP, "--calibration", "/nowhere/c.json"],
        "cannot read /nowhere/c.json: No such file or directory",
    ),
    "calibration is a folder": ([*SETUP, "--calibration", "/"], "cannot read /: Is a directory"),
    "pool too small": (
        [*SETUP, "--device-tokens", "64"],
        (
            "the device pool of 64 tokens holds 4 blocks of 16, the longest conversation (6256 tokens) needs 391: give "
            "--device-tokens at least 6256, or lower --scale"
        ),
    ),
    "host below a block": (
        [*SETUP, "--host-tokens", "3"],
        "--host-tokens 3 is less than one block: give at least its 16 tokens",
    ),
    "unknown run": ([*SETUP, "--runs", "vllm"], "unknown run 'vllm': known are " + ", ".join(SIMULATED_RUNS)),
    "no run": ([*SETUP, "--runs", ","], "unknown run ',': known are " + ", ".join(SIMULATED_RUNS)),
    "unknown policy": ([*SETUP, "--policy", "lottery"], POLICY_UNKNOWN),
    "no workload there": ([*SETUP, "--workload", "/nowhere/x.gz"], "/nowhere/x.gz: no such file"),
    "no times to scale": (
        [*SETUP, "--time-scale", "2"],
        "time_scale 2.0 finds no recorded times in synthetic; use rate and think_s",
    ),
    "json nowhere": (
        [*SETUP, "--json", "/nowhere/x.json"],
        "cannot write /nowhere/x.json: No such file or directory; choose another path",
    ),
    "plot is no PNG": ([*SETUP, "--plot", "x.jpg"], "--plot must name a .png file, got x.jpg"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(simulate, case):
    args, message = MISTAKES[case]
    status, out, err = simulate(*args)
    assert (status, out, err) == (2, "", f"fastswitch: {message}\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("costs", "Expecting value: line 1 column 1 (char 0)"),
        ("{}", "not a table of costs: KeyError('machine')"),
        ("[1]", "not a table of costs: TypeError('list indices must be integers or slices, not str')"),
        (json.dumps(TABLE | {"ways": {"device_to_host": ONE_WAY}}), "not a table of costs: KeyError('host_to_device')"),
        (
            json.dumps(TABLE | {"ways": {"device_to_host": ONE_WAY, "host_to_device": {}}}),
            "not a table of costs: a direction has no way",
        ),
    ],
)
def test_a_calibration_that_is_none_is_one_line_and_status_2(simulate, tmp_path, text, reason):
    path = tmp_path / "c.json"
    path.write_text(text)
    message = f"fastswitch: {path} is not what fastswitch calibrate --json writes: {reason}\n"
    assert simulate(*SETUP, "--calibration", path) == (2, "", message)


def test_a_run_whose_way_the_calibration_lacks_is_refused_by_name(simulate, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(TABLE))
    message = "fastswitch: run modern: the calibration has no way batched: it has per_run\n"
    assert simulate(*SETUP, "--calibration", path, "--runs", "paper,modern") == (2, "", message)


def test_an_unnamed_calibration_is_said_to_be_one(simulate, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(TABLE | {"machine": {}}))
    status, out, err = simulate(*SMALL, "--calibration", path, "--runs", "paper")
    assert (status, err) == (0, "")
    assert "copies as calibrated on an unnamed device" in out

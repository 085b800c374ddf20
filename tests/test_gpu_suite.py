"""The GPU suite without a GPU: its plan, its time limits, its verdicts, and its benchmarks in miniature."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_suite

    return gpu_suite


@pytest.fixture
def verdicts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import verdicts

    return verdicts


def test_the_plan_keeps_nine_minutes_and_eight_files(suite, tmp_path):
    plan = suite.phases(tmp_path)
    # what an interrupted phase may take besides is not planned for each: the deadline is for all of them
    assert suite.LIMIT_S + suite.GRACE_S <= 9 * 60
    assert sum(phase.limit_s for phase in plan[:-1]) <= suite.LIMIT_S - 150  # so much is left for the engine
    written = {Path(part.split("=")[-1]).name for phase in plan for part in phase.command if str(tmp_path) in part}
    assert written | {"verdicts.md", "phases.txt"} == set(suite.FILES)
    assert len(suite.FILES) <= 8
    assert all((ROOT / name).exists() for phase in plan for name in phase.command if name.startswith("benchmarks/"))


def test_phases_share_what_time_there_is_and_the_last_has_the_rest(suite):
    chosen = [suite.Phase("kernels", [], 160), suite.Phase("engine", [], 240)]
    assert [phase.limit_s for phase in suite.shared(chosen, 200)] == [80, 200]
    assert [phase.limit_s for phase in suite.shared(chosen, 500)] == [160, 500]


def test_the_engine_is_given_the_workload_that_its_script_writes(suite, load):
    path = suite.ENGINE_ON_GPU.split("--workload ")[1].split()[0]
    assert (ROOT / path).read_text().splitlines() == list(load("documents").conversations())


def test_a_phase_that_runs_out_of_time_is_interrupted_and_may_write_what_it_has(suite, tmp_path):
    program = f"""
import pathlib, threading
try:
    threading.Event().wait(60)
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "left")!r}).write_text("what there was")
"""
    phase = suite.Phase("patient", [sys.executable, "-c", program], 3.0)
    end = suite.run(phase, time.monotonic() + 60)
    assert end.startswith("interrupted after ")
    assert (tmp_path / "left").read_text() == "what there was"


@pytest.mark.parametrize(("status", "word"), [(0, "passed"), (3, "FAILED with status 3")])
def test_a_phase_says_how_it_ended(suite, status, word):
    phase = suite.Phase("short", [sys.executable, "-c", f"raise SystemExit({status})"], 30.0)
    assert suite.run(phase, time.monotonic() + 60).startswith(f"{word} in ")


def test_no_phase_starts_after_the_deadline(suite):
    assert suite.run(suite.Phase("late", ["false"], 30.0), time.monotonic()) == "not run: no time was left"


def test_interpreted_kernels_are_never_run_there(suite, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    program = "import os, sys; sys.exit('TRITON_INTERPRET' in os.environ)"
    assert suite.run(suite.Phase("env", [sys.executable, "-c", program], 30.0), time.monotonic() + 60).startswith(
        "pass"
    )


LINK = [{"op": "link", "direction": direction, "GB/s": 50.0} for direction in ("device_to_host", "host_to_device")]


CHOSEN = "the chosen way, of the best (a kernel's speed over 1.1)"


def of_way(way, speed, *, chosen="staged", case="layer_major 32KiB", direction="device_to_host"):
    return {"case": case, "direction": direction, "way": way, "chosen": chosen, "GB/s": speed}


def test_verdicts_are_ratios_within_one_file(verdicts):
    ways = {"per_block": 8.0, "per_run": 9.0, "staged": 48.0, "batched": 49.0}
    points = [*LINK, *(of_way(way, speed, chosen="batched") for way, speed in ways.items())]
    found = {each.what: each for each in verdicts.verdicts(points, "cuda")}
    best = found["layer_major 32KiB, device_to_host: the best way, of one big memcpy"]
    assert (best.figure, best.word) == (0.98, "reached")
    assert found["layer_major 32KiB, device_to_host: the best way over per_block"].figure == 49 / 8
    assert found[f"layer_major 32KiB, device_to_host: {CHOSEN}"].figure == 1.0
    assert found["layer_major 32KiB, host_to_device: the best way, of one big memcpy"].word == "not run"
    assert found["decode, 64 requests x 4k tokens: of the device's bandwidth"].word == "not run"


def test_a_missed_target_is_called_missed(verdicts):
    points = [*LINK, of_way("per_block", 30.0), of_way("per_run", 31.0), of_way("staged", 20.0)]
    words = {each.what.split(": ")[1]: each.word for each in verdicts.verdicts(points, "cuda") if each.figure}
    assert words == {
        "the best way, of one big memcpy": "MISSED",
        "the best way over per_block": "MISSED",
        CHOSEN: "MISSED",
    }


def test_a_kernel_that_is_chosen_for_less_than_a_tenth_is_not_the_best(verdicts):
    points = [*LINK, of_way("per_run", 48.0), of_way("staged", 49.0)]
    (found,) = [each for each in verdicts.verdicts(points, "cuda") if each.figure and CHOSEN in each.what]
    assert found.figure == pytest.approx(49 / 1.1 / 48)
    assert found.word == "MISSED"


def test_only_transfers_have_the_targets_of_transfers(verdicts):
    attention = [{"impl": impl, "case": "decode 16 x 1024", "GB/s": 1906.5} for impl in ("sdpa", "paged_attention")]
    found = [each.what for each in verdicts.verdicts([*LINK, *attention], "cuda")]
    assert not [what for what in found if what.startswith("decode 16 x 1024")]


def test_every_target_finds_its_point(verdicts):
    """With points as the benchmarks name them none is left out: names in two files have not drifted apart."""
    program = """
import json, sys
sys.path.insert(0, "benchmarks")
import bench_transfer
print(json.dumps([case.name for case in bench_transfer.GPU_CASES + bench_transfer.CPU_CASES]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    for verdict in verdicts.verdicts([], "cpu"):
        assert verdict.what.split(":")[0] in done.stdout


def test_benchmarks_run_in_miniature():
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"BENCH_MINIATURE": "1"}
    files = [f"benchmarks/bench_{name}.py" for name in ("stream", "block_copy", "kv_write", "attention", "transfer")]
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-disable", *files]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_whole_suite_runs_in_miniature(suite, tmp_path):
    env = dict(os.environ) | {"OUT": str(tmp_path)}
    command = [sys.executable, "benchmarks/gpu_suite.py"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(suite.FILES)


def test_where_no_kernel_was_measured_there_is_no_verdict_and_no_error(verdicts, tmp_path):
    verdicts.write_verdicts(tmp_path)
    assert (tmp_path / "verdicts.md").read_text() == "no verdicts: the kernels were not measured\n"

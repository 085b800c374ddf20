"""Figures of one case, and of several seeds together."""

import numpy as np
import pytest

from fastswitch.engine.reproduce.result import POOLED, Result, pooled
from tests.engine.reproduce import made_up

RUNS = ("vllm_0_3", "fastswitch")


def result(seed, longest, runs=RUNS, **figures):
    case = made_up.case(runs=runs, seed=seed)
    return Result.of(case, {run: made_up.outcome(run, longest, **figures) for run in runs})


def test_seeds_are_pooled_by_their_samples_and_their_totals():
    slow = result(1, 3.0, ("vllm_0_3", "fastswitch", "modern"), tokens_per_s=40.0, seconds=150.0)
    together = pooled([result(0, 1.0), slow])
    assert list(together.runs) == list(pooled([slow, result(0, 1.0)]).runs) == list(RUNS), "what one lacks is left out"
    every = np.concatenate([made_up.samples(1.0), made_up.samples(3.0)])
    assert together.figure("fastswitch", "ttft_s", "p95") == pytest.approx(np.percentile(every, 95))
    assert together.figure("fastswitch", "tokens_per_s") == pytest.approx((100 * 50 + 40 * 150) / 200)
    assert together.runs["fastswitch"]["switches"] == {
        "swap_outs": 6,
        "drops": 0,
        "stall_s": 1.0,
        "recomputed_tokens": 14,
        "blocks_out": 8,
        "blocks_in": 12,
        "copies": 10,
    }
    said = together.as_json()
    assert (said["seed"], said["seeds"]) == (POOLED, [0, 1])
    assert "command" not in said


def test_most_of_the_seeds_say_whether_a_run_is_saturated():
    mixed = [result(seed, 1.0, saturated=seed < 2) for seed in range(3)]
    assert pooled(mixed).is_saturated("fastswitch")
    assert not pooled(mixed[1:]).is_saturated("fastswitch")


def test_one_seed_stays_what_it_is():
    one = result(0, 1.0)
    assert pooled([one]) is one
    said = one.as_json()
    assert {"setup", "priority", "arrival", "seed", "runs", "speedup", "saturated", "command"} <= said.keys()
    assert said["speedup"]["fastswitch/vllm_0_3"]["ttft_p95"] == 1.0
    assert [run["name"] for run in said["runs"]] == list(RUNS)


def test_what_is_not_there_is_none():
    few = Result.of(made_up.case(runs=("paper",)), {"paper": made_up.outcome("paper", num=10)})
    assert few.figure("paper", "ttft_s", "p99") is None
    assert few.figure("vllm_0_3", "ttft_s", "p99") is None

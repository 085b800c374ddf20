"""Defaults of the bench against the rules that they follow, and what the report says when tokens differ."""

import dataclasses
import io
import itertools

import pytest
import torch

from fastswitch.engine.bench import prepare
from fastswitch.engine.measure import A10_ITERATION_S, A10_SWAP_S, Speeds, default_link
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.report import print_report
from fastswitch.engine.runs import RUNS
from fastswitch.engine.token_check import equivalent, first_difference
from fastswitch.memory import KVLayout

OPTIONS = BenchOptions(command="test", conversations=3, scale=0.02, block_size=4, runs="fastswitch,vllm_0_3")


@pytest.fixture(scope="module")
def experiment():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    experiment, _ = prepare(OPTIONS)
    experiment.run_all()
    yield experiment
    torch.set_num_threads(threads)


def test_the_device_pool_is_the_larger_of_its_two_rules(experiment):
    workload, spec = experiment.workload, experiment.bed.spec
    longest = -(-workload.max_context * 1.25 // 4)
    assert spec.device_blocks == max(longest, round(0.4 * workload.peak_demand_blocks(4)))
    assert spec.host_blocks == 8 * spec.device_blocks


def test_the_last_conversation_starts_when_the_work_divided_by_the_load_is_done(experiment):
    assert experiment.plan.last_start_s == pytest.approx(experiment.bed.work_s(experiment.workload) / 1.2)
    assert experiment.plan.think_mean_s == pytest.approx(experiment.plan.last_start_s / 10)


def test_on_the_default_link_a_swap_is_to_an_iteration_what_it_is_on_an_a10():
    layout = KVLayout(8, 4, 32, 16, "float64")
    link = default_link(Speeds(1000.0, 400.0, 0.02), layout)
    swap_s = 500 * layout.token_bytes / (link.gbps * 1e9)
    assert swap_s / 0.02 == pytest.approx(A10_SWAP_S / A10_ITERATION_S)
    assert 0.06 < A10_SWAP_S / A10_ITERATION_S < 0.08  # 2.56 ms to 36.5 ms
    assert link.call_us == 40.0
    assert default_link(Speeds(1.0, 1.0, 1.0), layout, call_us=3.0, gbps=2.0).gbps == 2.0


def test_each_later_row_changes_the_one_above_by_one_idea():
    rows = list(RUNS)
    for above, row in itertools.pairwise([RUNS[name] for name in rows[rows.index("+groups") :]]):
        changed = [
            f for f in ("allocator", "order", "way", "asynchronous", "reuse") if getattr(above, f) != getattr(row, f)
        ]
        idea = ["order", "way"] if row.name == "fastswitch" else changed[:1]  # whole blocks, and copies chosen for them
        assert changed == idea, (above.name, row.name, changed)


def test_speedups_do_not_depend_on_the_order_of_the_runs(experiment):
    result = experiment.as_json()
    fast, base = result["runs"]
    assert list(result["speedup"]) == ["fastswitch/vllm_0_3"]
    assert result["speedup"]["fastswitch/vllm_0_3"]["tokens_per_s"] == fast["tokens_per_s"] / base["tokens_per_s"]
    assert result["speedup"]["fastswitch/vllm_0_3"]["ttft_p99"] is None


def test_equal_tokens_have_no_difference(experiment):
    assert experiment.same_tokens()
    assert first_difference(experiment, experiment.bed, "vllm_0_3") is None


def test_a_wrong_token_is_told_from_a_near_tie(experiment, monkeypatch):
    right = experiment.turn_tokens["vllm_0_3"]
    wrong = {key: list(tokens) for key, tokens in right.items()}
    wrong[1, 0][2] = (wrong[1, 0][2] + 1) % 512
    monkeypatch.setitem(experiment.turn_tokens, "vllm_0_3", wrong)
    found = first_difference(experiment, experiment.bed, "vllm_0_3")
    assert str(found).startswith("vllm_0_3 differs from fastswitch at conversation 1, turn 0, token 2: ")
    assert str(found).endswith("NOT a near tie")
    assert found.gap > 0
    assert not equivalent(experiment, experiment.bed)
    monkeypatch.setattr("fastswitch.engine.token_check.NEAR_TIE", 1e9)
    assert str(first_difference(experiment, experiment.bed, "vllm_0_3")).endswith(": a near tie")
    assert equivalent(experiment, experiment.bed)


def test_the_report_fits_80_columns_and_cuts_no_number(experiment):
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    print_report(experiment, console)
    text = console.export_text()
    assert "\u2026" not in text
    for result in experiment.results:
        assert f"{result['ttft_s']['max'] * 1e3:.1f}" in text
        assert str(result["switches"]["copies"]) in text
    assert "p99" not in text.split("TBT, ms")[0], "so few turns have no such percentile"
    assert "fastswitch over each other run" in text
    assert "vllm_0_3" in text.split("fastswitch over each other run")[1]


def test_options_are_frozen_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPTIONS.seed = 3

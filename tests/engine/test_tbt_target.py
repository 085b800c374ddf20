"""A token budget that comes from a target of the time between tokens."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from fastswitch.engine.bench import prepare
from fastswitch.engine.measure_iterations import batch_timer, blocks_of
from fastswitch.engine.options import BenchOptions, ExperimentOptions, SimulateOptions
from fastswitch.engine.report import print_report
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.tbt_target import LongestIterations, derive_budget
from fastswitch.engine.usage import UsageError
from fastswitch.memory import KVLayout
from fastswitch.sched import ChunkedPrefill, PrefillFirst

BATCHES = LongestIterations(num_decodes=4, context=100, longest=300)


@pytest.fixture
def table(tmp_path):
    """Two conversations of 1,000 + 200 tokens."""
    path = tmp_path / "table.csv"
    path.write_text("row,arrival_s,input_tokens,output_tokens\n0,0,1000,200\n1,1,1000,200\n")
    return str(path)


def packer_of(**options):
    return ExperimentOptions(command="", **options).policy_with(0.04).scheduler(copies=True).packer


def test_the_budgets_where_none_is_asked_for():
    assert isinstance(packer_of(), PrefillFirst)
    assert packer_of().max_tokens == 8192
    assert isinstance(packer_of(packer="chunked"), ChunkedPrefill)
    assert packer_of(packer="chunked").token_budget == 512
    assert packer_of(packer="chunked", token_budget=96).token_budget == 96
    assert packer_of(token_budget=96).max_tokens == 96


def test_as_many_decode_as_the_pool_holds_at_half_the_mean_context(table):
    workload = prepare_simulation(SimulateOptions(command="", setup="llama8b-a10", workload=table)).workload
    assert LongestIterations.of(workload, 40_000) == LongestIterations(2, 600, 1200), "there are only two"
    assert LongestIterations.of(workload, 1_199) == LongestIterations(1, 600, 1200)
    assert LongestIterations.of(workload, 64) == LongestIterations(1, 600, 1200), "somebody always runs"


def test_prompts_get_what_one_decode_or_all_of_them_leave():
    decode = (100, 1, True)
    assert BATCHES.batches(5) == [[decode, (296, 4, True)], [decode] * 4 + [(299, 1, True)]]
    assert BATCHES.batches(301) == [[decode, (0, 300, True)], [decode] * 4 + [(3, 297, True)]]
    more_than_one = [(0, 300, True), (0, 300, True), (299, 1, True)]
    assert BATCHES.batches(602)[0] == [decode, *more_than_one]
    assert LongestIterations(1, 100, 300).batches(3) == [[decode, (298, 2, True)]], "one decode is all of them"


def tokens_of(batch):
    return sum(num_tokens for _, num_tokens, _ in batch)


def test_what_it_was_derived_from_is_kept():
    asked = []

    def seconds(batch):
        asked.append(batch)
        return tokens_of(batch) / 1000 + len(batch) / 10_000

    budget, source = derive_budget(12.0, BATCHES, seconds, timed_by="measured")
    assert budget == 11, "4 decodes and a piece are 0.5 ms on top, and 12 would take 12.5"
    assert source.iteration_s == 11 / 1000 + 5 / 10_000
    assert (source.tbt_target_s, source.batches, source.timed_by) == (0.012, BATCHES, "measured")
    assert len(asked) == 2 * len(source.iterations), "each is timed once"
    assert source.iterations == tuple((n, n / 1000 + 5 / 10_000) for n in sorted({*map(tokens_of, asked)}))


@pytest.mark.parametrize("num_short", [2, 5])  # the requests of the one batch, and of the other
def test_the_longer_of_the_two_batches_counts(num_short):
    def seconds(batch):
        return 0.001 if len(batch) == num_short else tokens_of(batch) / 1000

    budget, source = derive_budget(12.0, BATCHES, seconds, timed_by="roofline")
    assert (budget, source.iteration_s) == (12, 0.012)


def test_a_target_that_the_decodes_alone_exceed_is_refused():
    message = (
        "--tbt-target 12 is too short: 4 decodes, as many as the pool holds, and a token of a prompt take 15 ms "
        "(roofline): give more, or lower --device-tokens"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        derive_budget(12.0, BATCHES, lambda batch: 0.003 * len(batch), timed_by="roofline")


def test_a_simulation_derives_the_budget_by_the_roofline(table):
    options = SimulateOptions(command="", setup="llama8b-a10", workload=table, packer="chunked", tbt_target=60.0)
    bed = prepare_simulation(options).bed
    policy, batches = bed.spec.policy, LongestIterations(2, 600, 1200)
    seconds = [max(map(bed.roofline.seconds, batches.batches(policy.token_budget + more))) for more in (0, 1)]
    assert seconds[0] <= 0.060 < seconds[1], "the largest"
    assert policy.scheduler(copies=True).packer.token_budget == policy.token_budget
    said = policy.as_json()["budget_from"]
    assert (said["tbt_target_s"], said["timed_by"]) == (0.060, "roofline")
    assert said["batches"] == {"num_decodes": 2, "context": 600, "longest": 1200}
    assert said["iteration_s"] == seconds[0]


def test_while_nothing_is_switched_no_token_comes_later_than_the_target():
    small = {"conversations": 30, "rate": 2.0, "packer": "chunked", "seed": 3}
    options = SimulateOptions(command="", setup="llama8b-a10", device_tokens=10**6, tbt_target=80.0, **small)
    figures = prepare_simulation(options).serve(SIMULATED_RUNS["fastswitch"]).figures
    assert figures["switches"]["swap_outs"] == 0
    assert 0.070 < figures["tbt_resident_s"]["max"] <= 0.080


def test_a_budget_that_was_given_comes_from_nothing():
    policy = ExperimentOptions(command="", packer="chunked", token_budget=96).policy_with(0.04)
    assert policy.as_json()["token_budget"] == 96
    assert "budget_from" not in policy.as_json()


SMALL = {"conversations": 3, "scale": 0.02, "block_size": 4, "runs": "fastswitch", "packer": "chunked"}


@pytest.fixture(scope="module")
def bench():
    """A bench of a model here, with a target that it meets on any machine, so with the largest budget there is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastswitch.engine.bench.MOST_TOKENS", 40)
        yield prepare(BenchOptions(command="test", tbt_target=10_000.0, **SMALL))
    torch.set_num_threads(threads)


def test_a_bench_measures_iterations_of_the_model(bench, capsys):
    from rich.console import Console

    experiment, bed = bench
    policy = bed.spec.policy
    said = policy.budget_from
    assert said.timed_by == "measured"
    assert said.batches == LongestIterations.of(experiment.workload, bed.spec.device_blocks * 4)
    assert policy.token_budget == 40
    assert [num_tokens for num_tokens, _ in said.iterations] == [4, 8, 16, 32, 40]
    assert 0 < said.iteration_s == dict(said.iterations)[40] < 10
    assert policy.scheduler(copies=True).packer.token_budget == 40
    experiment.run_all()
    print_report(experiment, Console(width=300))
    out = capsys.readouterr().out
    assert f"token budget 40: its iterations take up to {said.iteration_s * 1e3:.1f} ms (measured, 3 decodes at " in out


def test_a_bench_refuses_a_target_that_the_model_cannot_meet(bench):
    message = r"^--tbt-target 1e-06 is too short: 3 decodes, .* take [\d.]+ ms \(measured\): give more"
    with pytest.raises(UsageError, match=message):
        prepare(BenchOptions(command="test", tbt_target=1e-6, **SMALL))


class Noted:
    """An executor that notes its batches."""

    batches: ClassVar[list] = []

    def __init__(self, _model, pool):
        self.num_blocks = pool.num_blocks

    def run(self, batch):
        assert all(block < self.num_blocks for entry in batch for block in entry.block_table)
        self.batches.append(batch)


def test_each_request_of_a_timed_batch_has_blocks_of_its_own(monkeypatch):
    monkeypatch.setattr("fastswitch.engine.measure_iterations.ModelExecutor", Noted)
    layout = KVLayout(num_layers=1, num_kv_heads=1, head_dim=1, block_size=4, dtype="float64")
    model = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")), vocab_size=7)
    largest = LongestIterations(num_decodes=3, context=10, longest=16).batches(40)
    num_blocks = blocks_of(layout, largest)
    assert num_blocks == max(3 + 4 * 3, 3 * 3 + 4 * 3)
    seconds = batch_timer(model, layout, num_blocks)
    for wanted in largest:
        assert seconds(wanted) > 0
        batch = Noted.batches[-1]
        assert [(entry.start, entry.num_tokens, entry.samples) for entry in batch] == wanted
        assert all(len(entry.token_ids) == entry.num_tokens for entry in batch)
        assert all(0 <= token < 7 for entry in batch for token in entry.token_ids)
        assert all(len(entry.block_table) * 4 >= entry.start + entry.num_tokens for entry in batch)
        blocks = [block for entry in batch for block in entry.block_table]
        assert len(blocks) == len(set(blocks))

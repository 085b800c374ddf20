"""A token budget that comes from a target of the time between tokens."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from fastswitch.engine.bench import prepare
from fastswitch.engine.measure_iterations import iteration_timer, most_tokens
from fastswitch.engine.options import BenchOptions, ExperimentOptions, SimulateOptions
from fastswitch.engine.report import print_report
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.tbt_target import TypicalBatch, derive_budget
from fastswitch.engine.usage import UsageError
from fastswitch.memory import KVLayout
from fastswitch.sched import ChunkedPrefill, PrefillFirst

BATCH = TypicalBatch(num_decodes=4, context=100)


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


def test_the_typical_batch_fills_the_pool_at_half_the_mean_context(table):
    workload = prepare_simulation(SimulateOptions(command="", setup="llama8b-a10", workload=table)).workload
    assert TypicalBatch.of(workload, device_tokens=40_000) == TypicalBatch(2, 600), "there are only two"
    assert TypicalBatch.of(workload, device_tokens=1_199) == TypicalBatch(1, 600)
    assert TypicalBatch.of(workload, device_tokens=64) == TypicalBatch(1, 600), "somebody always runs"


def test_a_batch_is_the_decodes_and_the_rest_of_the_budget_for_a_prompt():
    assert BATCH.chunks(9) == [(100, 1, True)] * 4 + [(100, 5, True)]
    assert BATCH.least_tokens == 5


def test_what_it_was_derived_from_is_kept():
    asked = []

    def seconds(num_tokens):
        asked.append(num_tokens)
        return num_tokens / 1000

    budget, source = derive_budget(12.0, BATCH, seconds, timed_by="measured")
    assert budget == 12
    assert source.iteration_s == 0.012
    assert (source.tbt_target_s, source.batch, source.timed_by) == (0.012, BATCH, "measured")
    assert len(asked) == len(set(asked)), "an iteration is measured once"
    assert source.iterations == tuple((n, n / 1000) for n in sorted(asked))


def test_a_target_that_the_decodes_alone_exceed_is_refused():
    message = (
        "--tbt-target 12 is too short: 4 decodes, as many as the pool holds, and a token of a prompt take 15.0 ms "
        "(roofline): give more, or lower --device-tokens"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        derive_budget(12.0, BATCH, lambda n: 0.003 * n, timed_by="roofline")


def test_a_simulation_derives_the_budget_by_the_roofline(table):
    options = SimulateOptions(command="", setup="llama8b-a10", workload=table, packer="chunked", tbt_target=60.0)
    bed = prepare_simulation(options).bed
    policy, batch = bed.spec.policy, TypicalBatch(2, 600)
    seconds = [bed.roofline.seconds(batch.chunks(policy.token_budget + more)) for more in (0, 1)]
    assert seconds[0] <= 0.060 < seconds[1], "the largest"
    assert policy.scheduler(copies=True).packer.token_budget == policy.token_budget
    said = policy.as_json()["budget_from"]
    assert (said["tbt_target_s"], said["timed_by"]) == (0.060, "roofline")
    assert said["batch"] == {"num_decodes": 2, "context": 600}
    assert said["iteration_s"] == seconds[0]


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
    assert said.batch == TypicalBatch.of(experiment.workload, bed.spec.device_blocks * 4)
    assert policy.token_budget == 40
    assert [num_tokens for num_tokens, _ in said.iterations] == [4, 8, 16, 32, 40]
    assert 0 < said.iteration_s == dict(said.iterations)[40] < 10
    assert policy.scheduler(copies=True).packer.token_budget == 40
    experiment.run_all()
    print_report(experiment, Console(width=300))
    assert f"token budget 40: with 3 decodes at {said.batch.context} tokens its" in capsys.readouterr().out


def test_a_bench_refuses_a_target_that_the_model_cannot_meet(bench):
    message = r"^--tbt-target 1e-06 is too short: 3 decodes, .* take \d+\.\d ms \(measured\): give more"
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


def test_an_iteration_is_timed_with_the_decodes_and_a_piece_in_blocks_of_their_own(monkeypatch):
    monkeypatch.setattr("fastswitch.engine.measure_iterations.ModelExecutor", Noted)
    layout = KVLayout(num_layers=1, num_kv_heads=1, head_dim=1, block_size=4, dtype="float64")
    model = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")), vocab_size=7)
    seconds = iteration_timer(model, layout, TypicalBatch(num_decodes=3, context=10), most=40)
    for num_tokens in (4, 40):
        assert seconds(num_tokens) > 0
        batch = Noted.batches[-1]
        assert [(entry.start, entry.num_tokens) for entry in batch] == [(10, 1)] * 3 + [(10, num_tokens - 3)]
        assert all(len(entry.token_ids) == entry.num_tokens for entry in batch)
        assert all(0 <= token < 7 for entry in batch for token in entry.token_ids)
        assert all(len(entry.block_table) * 4 >= entry.start + entry.num_tokens for entry in batch)
        blocks = [block for entry in batch for block in entry.block_table]
        assert len(blocks) == len(set(blocks))


def test_no_iteration_is_longer_than_the_models_positions():
    assert most_tokens(TypicalBatch(num_decodes=3, context=10), 1000, 40) == 40
    assert most_tokens(TypicalBatch(num_decodes=3, context=10), 16, 40) == 3 + 16 - 10

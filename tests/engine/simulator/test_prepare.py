"""What ``simulate`` decides where the options leave it open."""

from __future__ import annotations

import pytest

from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation


def prepare(**options):
    return prepare_simulation(SimulateOptions(command="", setup="llama8b-a10", **options))


def test_by_default_200_conversations_of_3_turns_arrive_one_a_second_and_think_for_ten():
    experiment = prepare()
    assert len(experiment.workload) == 200
    assert min(len(conversation.turns) for conversation in experiment.workload.conversations) >= 3
    assert experiment.plan.think_mean_s == 10
    assert experiment.plan.gap_scale is None
    assert 160 < experiment.plan.last_start_s < 240  # 199 gaps of a second, with a standard deviation of 14
    assert [run.name for run in experiment.runs] == list(SIMULATED_RUNS)


def test_rate_and_think_time_are_taken_literally():
    plan, default = prepare(rate=4.0, think=0.0).plan, prepare().plan
    assert plan.last_start_s == pytest.approx(default.last_start_s / 4)
    assert plan.think_mean_s == 0
    turns = prepare().workload.num_turns
    by_turn = prepare(rate=4.0, arrival="turn").plan
    assert by_turn.last_start_s == pytest.approx(default.last_start_s / 4 * turns / 200)


def test_recorded_times_are_kept_and_can_be_scaled(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("row,arrival_s,input_tokens,output_tokens\n0,1.5,374,44\n1,4.25,10,109\n")
    starts = [timing.start_s for timing in prepare(workload=str(path)).plan.conversations]
    assert starts == [0.0, 2.75]
    starts = [timing.start_s for timing in prepare(workload=str(path), time_scale=2.0).plan.conversations]
    assert starts == [0.0, 5.5]
    assert prepare(workload=str(path), rate=1.0).plan.last_start_s != 2.75


def test_lengths_are_not_scaled_unless_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("row,arrival_s,input_tokens,output_tokens\n0,0,400,40\n")
    assert prepare(workload=str(path)).workload.max_context == 440
    assert prepare(workload=str(path), scale=0.5).workload.max_context == 220


def test_the_seconds_of_work_are_prompts_one_at_a_time_and_decodes_by_eight(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("row,arrival_s,input_tokens,output_tokens\n0,0,1000,200\n1,1,1000,200\n")
    experiment = prepare(workload=str(path))
    # A prompt of 1,000: 14,222,100,529,152 FLOPs at 75 TFLOP/s and 3 ms; two of them.
    # Eight decodes at half of 1,200: weights of 15,009,316,864 bytes, 131,072 x 8 x (601 + 1) of KV at 480 GB/s and
    # 3 ms, for 400 output tokens 50 times.
    prefill_s = 14_222_100_529_152 / 75e12 + 0.003
    decode_s = (15_009_316_864 + 131_072 * 8 * 602) / 480e9 + 0.003
    assert experiment.bed.work_s(experiment.workload) == pytest.approx(2 * prefill_s + 50 * decode_s)

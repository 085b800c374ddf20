"""The real traces, where the environment variable FASTSWITCH_TRACES names their folder; else skipped."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fastswitch.engine.workloads import plan_arrivals, read_workload, select

TRACES = os.environ.get("FASTSWITCH_TRACES", "")
pytestmark = pytest.mark.skipif(not (TRACES and Path(TRACES).is_dir()), reason="FASTSWITCH_TRACES names no folder")


def read(name, **options):
    return read_workload(Path(TRACES) / name, **options)


def lengths(workload, name):
    return [getattr(turn, name) for each in workload.conversations for turn in each.turns]


def figures(values):
    return [round(float(np.mean(values))), *(round(float(p)) for p in np.percentile(values, [50, 90, 99, 100]))]


def test_sharegpt_conversations():
    workload = read("sharegpt_lengths/conversations_dev.jsonl.gz")
    assert (len(workload), workload.num_turns, workload.max_context) == (793, 2889, 6261)
    assert round(np.mean([each.context_len for each in workload.conversations])) == 1684
    assert figures(lengths(workload, "output_tokens"))[0] == 326
    assert len(select(workload, min_turns=3)) == 455


def test_sharegpt_first_turns():
    started = time.perf_counter()
    workload = read("sharegpt_lengths/first_turn_dev.csv.gz")
    assert time.perf_counter() - started < 10  # 0.3 s on an idle core
    assert len(workload) == workload.num_turns == 45_000
    assert figures(lengths(workload, "input_tokens")) == [303, 36, 819, 3492, 241402]
    assert figures(lengths(workload, "output_tokens")) == [323, 280, 681, 1001, 37622]


def test_mooncake_sessions():
    workload = read("mooncake/multiturn_sessions_dev.jsonl.gz")
    assert (len(workload), workload.num_turns) == (1222, 3437)
    contexts = [each.context_len for each in workload.conversations]
    assert np.percentile(contexts, [50, 90]) == pytest.approx([10197, 29719], abs=10)
    assert sum(context <= 8192 for context in contexts) == 499
    assert workload.records_arrivals
    assert workload.records_gaps
    plan = plan_arrivals(workload, work_s=12.0)
    assert plan.last_start_s == pytest.approx(10.0)
    assert plan.gap_scale == pytest.approx(10.0 / 2367.0)


def test_azure_conversation_service():
    workload = read("azure2023/conv_dev.csv.gz")
    assert len(workload) == 14_176
    assert figures(lengths(workload, "input_tokens"))[::2] == [1195, 4074, 14050]
    assert figures(lengths(workload, "output_tokens")) == pytest.approx([202, 115, 421, 598, 1000], abs=1)
    assert workload.conversations[0].arrival_s == 0
    assert workload.conversations[-1].arrival_s < 2400


def test_arena_clients():
    workload = read("arena_clients/arena_clients.csv.gz")
    clients = [each.client_id for each in workload.conversations]
    assert sorted((clients.count(client) for client in set(clients)), reverse=True)[:5] == [296, 262, 199, 120, 67]
    assert len(set(clients)) == 27
    assert figures(lengths(workload, "input_tokens"))[:3] == [136, 40, 432]


def test_mtbench101():
    workload = read("chat_text/mtbench101_dev.jsonl.gz")
    assert len(workload) == 999
    assert figures(lengths(workload, "input_tokens"))[1:3] == [62, 110]
    first = workload.conversations[0].turns[0]
    assert bytes(first.text_tokens).decode() == first.text

"""Every kernel that a run launches has been compiled before: by lengths, by numbers, once for an order of pools."""

from __future__ import annotations

import math

import pytest
import torch

from fastswitch.engine.bench import prepare
from fastswitch.engine.model_executor import ModelExecutor, kv_layout
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.warm_up import CHUNK, MOST_DECODES, iterations, warm_up
from fastswitch.kernels import AttentionPlan
from fastswitch.kernels._attention_tile import choose_splits, choose_tile
from tests.engine.small_models import build


def parts_at_once(start, tokens):
    """What the merge of a request's parts is compiled for: their number, as a power of two; 1 where there is none."""
    tables = [torch.arange(-(-(start + tokens) // 16), dtype=torch.int32).numpy()]
    plan = AttentionPlan.build(tables, [tokens], [start + tokens], block_size=16, device="cpu")
    strips = plan.index.decodes if tokens == 1 else plan.index.chunks
    tile = choose_tile(4, strips.rows, 128, torch.bfloat16)
    numel = len(strips.index) * strips.rows * 32 * 128
    return 1 << math.ceil(math.log2(choose_splits(strips, tile, 8, strips.max_keys, numel, 132)))


@pytest.mark.parametrize("max_context", [2, 50, 700, 1266, 6000])
def test_no_length_is_left_whose_merge_is_not_compiled(max_context):
    batches = list(iterations(max_context, 64))
    alone = [batch[0] for batch in batches if len(batch) == 1]
    compiled = {parts_at_once(start, 1) for start, tokens in alone if tokens == 1}
    assert {parts_at_once(start, 1) for start in range(1, max_context)} == compiled
    in_chunks = {parts_at_once(start, tokens) for start, tokens in alone if tokens == CHUNK}
    assert {parts_at_once(start, CHUNK) for start in range(max_context - CHUNK)} <= in_chunks


def test_batches_keep_to_the_context_and_the_budget():
    batches = list(iterations(100, 1000))
    assert all(start + tokens <= 100 for batch in batches for start, tokens in batch)
    assert max(sum(tokens for _, tokens in batch) for batch in batches) in range(500, 1001)
    assert max(map(len, batches)) == MOST_DECODES
    assert next(iterations(2, 2)) == [(1, 1)]


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["block_major", "layer_major"])
def test_on_a_gpu_everything_is_run(order):
    model = build("llama").to("cuda")
    loaded = LoadedModel("llama", model, None, 97, torch.float64)
    warm_up(loaded, kv_layout(model, 4, order), ["per_block", "chosen"], max_context=60, token_budget=100)


def test_each_order_is_warmed_up_once_before_a_run(monkeypatch):
    orders = []

    def run(self, batch):
        orders.append(self._pool.layout.order)
        return whole(self, batch)

    whole = ModelExecutor.run
    monkeypatch.setattr(ModelExecutor, "run", run)
    runs = "vllm_0_3,paper,fastswitch,recompute"
    options = {"command": "test", "conversations": 2, "scale": 0.01, "link": "none"}
    prepare(BenchOptions(**options, runs=runs))
    assert orders[:2] == ["layer_major", "block_major"]
    orders.clear()
    prepare(BenchOptions(**options, runs="vllm_0_3"))
    assert orders.count("layer_major") == 1

"""Paged attention of decodes and of prefills on a prefix: ours, and torch's attention on KV that lies dense already.

Run: ``pytest benchmarks/bench_attention.py``. On CUDA where there is a device, in bfloat16 and with the shapes of
Llama-3-8B; else on the CPU, in float32 and much smaller, with one torch thread. Torch's attention has no blocks to look
up, and all requests are equally long; for prefills it is given a mask. GB/s counts every key and value once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fastswitch.kernels import AttentionPlan, paged_attention

ON_GPU = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if ON_GPU else ("cpu", torch.float32)
HEADS, KV_HEADS, DIM, BLOCK_SIZE = (32, 8, 128, 16) if ON_GPU else (8, 2, 64, 16)
# name |-> (requests, query_len, seq_len)
CASES = (
    {"decode 64 x 4k": (64, 1, 4096), "decode 16 x 1k": (16, 1, 1024), "prefill 4 x 1k on 3k": (4, 1024, 4096)}
    if ON_GPU
    else {"decode 8 x 256": (8, 1, 256), "prefill 2 x 64 on 192": (2, 64, 256)}
)
L2_BYTES = 256 << 20  # more than any device has


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Inputs:
    query: torch.Tensor  # [num_tokens, HEADS, DIM]
    pool: torch.Tensor  # [num_blocks, 2, BLOCK_SIZE, KV_HEADS, DIM]
    plan: AttentionPlan
    dense: tuple  # keys and values, [requests, KV_HEADS, seq_len, DIM]
    mask: torch.Tensor | None  # [query_len, seq_len]; None for decodes


def make_inputs(requests, query_len, seq_len):
    torch.manual_seed(0)
    num_blocks = requests * seq_len // BLOCK_SIZE
    tables = torch.randperm(num_blocks).view(requests, -1)
    pool = torch.randn(num_blocks, 2, BLOCK_SIZE, KV_HEADS, DIM, dtype=DTYPE, device=DEVICE)
    query = torch.randn(requests * query_len, HEADS, DIM, dtype=DTYPE, device=DEVICE)
    plan = AttentionPlan.build(
        list(tables.numpy().astype(np.int32)),
        [query_len] * requests,
        [seq_len] * requests,
        block_size=BLOCK_SIZE,
        device=DEVICE,
    )
    gathered = pool[tables.to(DEVICE)].transpose(1, 2).flatten(2, 3).transpose(2, 3).contiguous()
    mask = torch.ones(query_len, seq_len, dtype=torch.bool, device=DEVICE).tril(seq_len - query_len)
    return Inputs(query, pool, plan, tuple(gathered.unbind(1)), None if query_len == 1 else mask)


def ours(inputs):
    return paged_attention(inputs.query, inputs.pool[:, 0], inputs.pool[:, 1], inputs.plan, scale=DIM**-0.5)


def torch_on_dense_kv(inputs):
    requests = len(inputs.dense[0])
    query = inputs.query.view(requests, -1, HEADS, DIM).transpose(1, 2)
    out = torch.nn.functional.scaled_dot_product_attention(query, *inputs.dense, attn_mask=inputs.mask, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)


def synchronised(call, inputs):
    out = call(inputs)
    if ON_GPU:
        torch.cuda.synchronize()
    return out


def flush():
    if ON_GPU:
        torch.zeros(L2_BYTES, dtype=torch.uint8, device=DEVICE)
        torch.cuda.synchronize()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("impl", [torch_on_dense_kv, ours])
def test_attention(benchmark, impl, case):
    inputs = make_inputs(*CASES[case])
    tolerance = {"rtol": 2e-2, "atol": 4e-3} if ON_GPU else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(impl(inputs), torch_on_dense_kv(inputs), **tolerance)
    benchmark.group = f"attention {case} {DEVICE}"
    benchmark.pedantic(
        synchronised, args=(impl, inputs), setup=flush, rounds=30 if ON_GPU else 5, warmup_rounds=3 if ON_GPU else 1
    )
    if benchmark.stats is not None:
        num_bytes = sum(tensor.nbytes for tensor in inputs.dense)
        benchmark.extra_info["GB/s"] = round(num_bytes / benchmark.stats.stats.median / 1e9, 2)
        benchmark.extra_info["dtype"] = str(DTYPE)
        benchmark.extra_info["shape"] = f"{HEADS}/{KV_HEADS} heads x {DIM}, blocks of {BLOCK_SIZE}"
        benchmark.extra_info["device"] = torch.cuda.get_device_name() if ON_GPU else "cpu"

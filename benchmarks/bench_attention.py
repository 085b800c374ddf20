"""Paged attention of decodes and of prefills on a prefix: ours, and torch's attentions on KV that lies dense already.

Run: ``pytest benchmarks/bench_attention.py``. On CUDA where there is a device, in bfloat16 and with the shapes of
Llama-3-8B; else on the CPU, in float32 and much smaller. Torch's attentions have no blocks to look up, and all requests
are equally long; for prefills they are given a mask. GB/s counts every key and value once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from measuring import DEVICE, MINIATURE, measure
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from fastswitch.kernels import AttentionPlan, paged_attention

ON_GPU = DEVICE == "cuda"
DTYPE = torch.bfloat16 if ON_GPU else torch.float32
HEADS, KV_HEADS, DIM, BLOCK_SIZE = (32, 8, 128, 16) if ON_GPU else (8, 2, 64, 16)
# name |-> (requests, query_len, seq_len)
CASES = (
    {"decode 64 x 4096": (64, 1, 4096), "decode 16 x 1024": (16, 1, 1024), "prefill 4 x 1024 on 3072": (4, 1024, 4096)}
    if ON_GPU and not MINIATURE
    else {"decode 8 x 256": (8, 1, 256), "prefill 2 x 64 on 192": (2, 64, 256)}
)


@dataclass(frozen=True)
class Inputs:
    query: torch.Tensor  # [num_tokens, HEADS, DIM]
    pool: torch.Tensor  # [num_blocks, 2, BLOCK_SIZE, KV_HEADS, DIM]
    plan: AttentionPlan
    dense: tuple  # keys and values, [requests, KV_HEADS, seq_len, DIM]
    mask: torch.Tensor | None  # [query_len, seq_len]; None for decodes
    block_mask: Any  # the same for FlexAttention


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
    if query_len == 1:
        return Inputs(query, pool, plan, tuple(gathered.unbind(1)), None, None)
    behind = seq_len - query_len
    block_mask = create_block_mask(
        lambda _b, _h, row, key: key <= row + behind, None, None, query_len, seq_len, device=DEVICE
    )
    return Inputs(query, pool, plan, tuple(gathered.unbind(1)), mask, block_mask)


def ours(inputs):
    return paged_attention(inputs.query, inputs.pool[:, 0], inputs.pool[:, 1], inputs.plan, scale=DIM**-0.5)


def sdpa(inputs):
    return attend_dense(inputs, torch.nn.functional.scaled_dot_product_attention, attn_mask=inputs.mask)


def flex(inputs):
    return attend_dense(inputs, compiled_flex(), block_mask=inputs.block_mask)


def attend_dense(inputs, attention, **mask):
    requests = len(inputs.dense[0])
    query = inputs.query.view(requests, -1, HEADS, DIM).transpose(1, 2)
    return attention(query, *inputs.dense, enable_gqa=True, **mask).transpose(1, 2).flatten(0, 1)


@functools.cache
def compiled_flex():
    return torch.compile(flex_attention, dynamic=False)


IMPLS = {"sdpa": sdpa, "paged_attention": ours} | ({"flex": flex} if ON_GPU else {})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("impl", IMPLS)
def test_attention(benchmark, impl, case):
    inputs = make_inputs(*CASES[case])
    tolerance = {"rtol": 2e-2, "atol": 4e-3} if ON_GPU else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(IMPLS[impl](inputs), sdpa(inputs), **tolerance)
    facts = {"impl": impl, "case": case, "dtype": str(DTYPE).removeprefix("torch.")}
    facts["shape"] = f"{HEADS}/{KV_HEADS} heads x {DIM}, blocks of {BLOCK_SIZE}"
    num_bytes = sum(tensor.nbytes for tensor in inputs.dense)
    measure(benchmark, lambda: IMPLS[impl](inputs), group=f"attention {case}", num_bytes=num_bytes, **facts)

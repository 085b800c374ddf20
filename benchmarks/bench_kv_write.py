"""Writing a step's keys and values into a layer of a block-major pool: ours, and one indexed assignment a cache.

Run: ``pytest benchmarks/bench_kv_write.py``. On CUDA where there is a device, with Llama-3-8B's 8 KV heads of 128; else
on the CPU. Keys come as transformers hands them over, heads first. A tenth of the slots is
padding. GB/s counts what is written.
"""

from __future__ import annotations

import functools

import pytest
import torch
from measuring import DEVICE, MINIATURE, measure

from fastswitch.kernels import write_kv, write_kv_reference

KV_HEADS, DIM, BLOCK_SIZE, LAYERS = 8, 128, 16, 4
NUM_TOKENS = (64,) if MINIATURE else (64, 8192) if DEVICE == "cuda" else (64, 1024)


def assign(key, value, k_cache, v_cache, slots):
    """What is left out waits for the device where the tensors are on one."""
    written = slots >= 0
    block_ids, offsets = slots[written] // BLOCK_SIZE, slots[written] % BLOCK_SIZE
    k_cache[block_ids, offsets] = key[written]
    v_cache[block_ids, offsets] = value[written]


def make_inputs(num_tokens):
    torch.manual_seed(0)
    num_blocks = 4 * num_tokens // BLOCK_SIZE
    pool = torch.zeros(num_blocks, LAYERS, 2, BLOCK_SIZE, KV_HEADS, DIM, dtype=torch.bfloat16, device=DEVICE)
    key, value = torch.randn(2, KV_HEADS, num_tokens, DIM, device=DEVICE).bfloat16().transpose(1, 2)
    slots = torch.randperm(num_blocks * BLOCK_SIZE)[:num_tokens]
    slots[::10] = -1
    return key, value, pool, slots.to(DEVICE)


@pytest.mark.parametrize("num_tokens", NUM_TOKENS)
@pytest.mark.parametrize("impl", [assign, write_kv])
def test_write_kv(benchmark, impl, num_tokens):
    key, value, pool, slots = make_inputs(num_tokens)
    expected = pool.cpu()
    impl(key, value, pool[:, 1, 0], pool[:, 1, 1], slots)
    write_kv_reference(key.cpu(), value.cpu(), expected[:, 1, 0], expected[:, 1, 1], slots.cpu())
    assert torch.equal(pool.cpu(), expected)
    facts = {"impl": impl.__name__, "dtype": "bfloat16", "shape": [num_tokens, KV_HEADS, DIM]}
    num_bytes = 2 * int((slots >= 0).sum()) * KV_HEADS * DIM * 2
    caches = pool[:, 1, 0], pool[:, 1, 1]
    call = functools.partial(impl, key, value, *caches, slots)
    measure(benchmark, call, group=f"write_kv {num_tokens} tokens", num_bytes=num_bytes, **facts)

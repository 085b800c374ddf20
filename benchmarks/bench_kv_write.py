"""Writing a step's keys and values into a layer of a block-major pool: ours, and one indexed assignment a cache.

Run: ``pytest benchmarks/bench_kv_write.py``. On CUDA where there is a device, with Llama-3-8B's 8 KV heads of 128; else
on the CPU with one torch thread. Keys come as transformers hands them over, heads first. A tenth of the slots is
padding. GB/s counts what is written.
"""

from __future__ import annotations

import pytest
import torch

from fastswitch.kernels import write_kv, write_kv_reference

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
KV_HEADS, DIM, BLOCK_SIZE, LAYERS = 8, 128, 16, 4
NUM_TOKENS = (64, 8192) if ON_GPU else (64, 1024)
L2_BYTES = 256 << 20  # more than any device has


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def synchronised(call, *args):
    call(*args)
    if ON_GPU:
        torch.cuda.synchronize()


def flush():
    if ON_GPU:
        torch.zeros(L2_BYTES, dtype=torch.uint8, device=DEVICE)
        torch.cuda.synchronize()


@pytest.mark.parametrize("num_tokens", NUM_TOKENS)
@pytest.mark.parametrize("impl", [assign, write_kv])
def test_write_kv(benchmark, impl, num_tokens):
    key, value, pool, slots = make_inputs(num_tokens)
    expected = pool.cpu()
    impl(key, value, pool[:, 1, 0], pool[:, 1, 1], slots)
    write_kv_reference(key.cpu(), value.cpu(), expected[:, 1, 0], expected[:, 1, 1], slots.cpu())
    assert torch.equal(pool.cpu(), expected)
    benchmark.group = f"write_kv {num_tokens} tokens {DEVICE}"
    benchmark.pedantic(
        synchronised,
        args=(impl, key, value, pool[:, 1, 0], pool[:, 1, 1], slots),
        setup=flush,
        rounds=30 if ON_GPU else 20,
        warmup_rounds=3,
    )
    if benchmark.stats is not None:
        num_bytes = 2 * int((slots >= 0).sum()) * KV_HEADS * DIM * 2
        benchmark.extra_info["GB/s"] = round(num_bytes / benchmark.stats.stats.median / 1e9, 2)
        benchmark.extra_info["dtype"] = "torch.bfloat16"
        benchmark.extra_info["shape"] = f"{num_tokens} x {KV_HEADS} x {DIM}, blocks of {BLOCK_SIZE}"
        benchmark.extra_info["device"] = torch.cuda.get_device_name() if ON_GPU else "cpu"

"""Block copies by ids and by runs: ours, plain indexing, and the loops that engines write today, beside one plain copy.

Run: ``pytest benchmarks/bench_block_copy.py``. On CUDA where there is a device, else on the CPU with one torch thread;
every time includes the synchronisation. The moved bytes exceed the caches, and a pool is four times what is moved.
``of copy`` in the extra information is the share of what one copy of as many contiguous bytes reaches on this device.
"""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
import torch

from fastswitch.kernels import (
    copy_blocks,
    copy_blocks_reference,
    gather_blocks,
    gather_blocks_reference,
    scatter_blocks,
    scatter_blocks_reference,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MOVED_BYTES = (1024 if DEVICE == "cuda" else 64) << 20
# name |-> (layers, 2, block_size, heads, dim) of a block in bfloat16
BLOCKS = {
    "8KiB": (1, 2, 16, 1, 128),
    "32KiB": (1, 2, 16, 4, 128),
    "256KiB": (4, 2, 16, 8, 128),
    "2MiB": (32, 2, 16, 8, 128),
}
RUN_LENGTHS = [1, 16]
each_layout = pytest.mark.parametrize("layout", ["block_major", "layer_major"])
each_size = pytest.mark.parametrize("size", BLOCKS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gather_per_block(src, ids):
    out = torch.empty((len(ids), *src.shape[1:]), dtype=src.dtype, device=src.device)
    for i, block_id in enumerate(ids.tolist()):
        out[i].copy_(src[block_id], non_blocking=True)
    return out


def gather_into_out(src, ids):
    """Ours, into memory that exists: new memory costs a CPU more than the copy."""
    return gather_blocks(src, ids, out=out_for(src.shape[1:], len(ids)))


@functools.lru_cache(maxsize=1)
def out_for(block_shape, num_blocks):
    return torch.zeros((num_blocks, *block_shape), dtype=torch.bfloat16, device=DEVICE)


def scatter_per_block(blocks, dst, ids):
    for i, block_id in enumerate(ids.tolist()):
        dst[block_id].copy_(blocks[i], non_blocking=True)


def copy_per_run(src, dst, runs):
    for src_start, dst_start, num_blocks in runs.tolist():
        dst[dst_start : dst_start + num_blocks].copy_(src[src_start : src_start + num_blocks], non_blocking=True)


def make_pool(layout, block_shape):
    """A pool of random bytes ``[num_blocks, *block_shape]``, and ids of a quarter of its blocks, scattered."""
    num_moved = MOVED_BYTES // (2 * torch.Size(block_shape).numel())
    layers, two, *rest = block_shape
    shape = (4 * num_moved, *block_shape) if layout == "block_major" else (layers, two, 4 * num_moved, *rest)
    memory = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, device=DEVICE).view(torch.bfloat16)
    pool = memory if layout == "block_major" else memory.permute(2, 0, 1, 3, 4, 5)
    ids = torch.randperm(4 * num_moved, generator=torch.Generator().manual_seed(0))[:num_moved]
    return pool, ids


def make_runs(num_blocks, run_length):
    """Runs that move a quarter of the blocks from anywhere to anywhere in pools of ``num_blocks``."""
    random = np.random.default_rng(0)
    num_runs = max(1, num_blocks // (4 * run_length))
    src, dst = (random.permutation(num_blocks // run_length)[:num_runs] * run_length for _ in range(2))
    return np.stack([src, dst, np.full(num_runs, run_length)], axis=1)


def synchronised(call):
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def copy_speed():
    """GB/s, read and written, of one copy between contiguous tensors, measured anew each time: machines are shared."""
    src, dst = (torch.zeros(MOVED_BYTES, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    best_s = np.inf
    for _ in range(6):
        synchronised(lambda: None)
        start_s = time.perf_counter()
        synchronised(lambda: dst.copy_(src))
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2 * MOVED_BYTES / best_s / 1e9


def measure(benchmark, call, *, group, num_bytes=MOVED_BYTES):
    """Time the call with its synchronisation; bytes are counted once read and once written."""
    benchmark.group = f"{group} {DEVICE}"
    benchmark.pedantic(synchronised, args=(call,), rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        speed = 2 * num_bytes / benchmark.stats.stats.min / 1e9
        benchmark.extra_info["GB/s"] = round(speed, 2)
        benchmark.extra_info["of copy"] = round(speed / copy_speed(), 3)
        benchmark.extra_info["device"] = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def same(left, right):
    return torch.equal(left.view(torch.int16), right.view(torch.int16))


@each_layout
@each_size
@pytest.mark.parametrize("impl", [gather_per_block, gather_blocks_reference, gather_blocks, gather_into_out])
def test_gather(benchmark, impl, size, layout):
    src, ids = make_pool(layout, BLOCKS[size])
    assert same(impl(src, ids), src[ids.to(DEVICE)])
    measure(benchmark, lambda: impl(src, ids), group=f"gather {size} {layout}")


@each_layout
@each_size
@pytest.mark.parametrize("impl", [scatter_per_block, scatter_blocks_reference, scatter_blocks])
def test_scatter(benchmark, impl, size, layout):
    dst, ids = make_pool(layout, BLOCKS[size])
    blocks = dst.flip(0)[: len(ids)].contiguous()
    expected = dst.clone()
    expected.view(torch.int16)[ids.to(DEVICE)] = blocks.view(torch.int16)
    impl(blocks, dst, ids)
    assert same(dst, expected)
    measure(benchmark, lambda: impl(blocks, dst, ids), group=f"scatter {size} {layout}")


@pytest.mark.parametrize("run_length", RUN_LENGTHS)
@each_layout
@each_size
@pytest.mark.parametrize("impl", [copy_per_run, copy_blocks_reference, copy_blocks])
def test_copy_of_runs(benchmark, impl, size, layout, run_length):
    src, _ = make_pool(layout, BLOCKS[size])
    dst = torch.zeros_like(src)
    runs = make_runs(len(src), run_length)
    expected = torch.zeros_like(src)
    for src_start, dst_start, num_blocks in runs.tolist():
        expected[dst_start : dst_start + num_blocks] = src[src_start : src_start + num_blocks]
    impl(src, dst, runs)
    assert same(dst, expected)
    num_bytes = int(runs[:, 2].sum()) * src[:1].nbytes
    group = f"runs of {run_length} x {size} {layout}"
    measure(benchmark, lambda: impl(src, dst, runs), group=group, num_bytes=num_bytes)

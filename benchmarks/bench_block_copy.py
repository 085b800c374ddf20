"""Block copies by ids and by runs: ours, plain indexing, and the loops that engines write today.

Run: ``pytest benchmarks/bench_block_copy.py``. On CUDA where there is a device, else on the CPU with one torch thread.
The moved bytes exceed the caches, and a pool is four times what is moved. The ceiling is ``bench_stream.py``'s copy.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from measuring import DEVICE, MINIATURE, measure

from fastswitch.kernels import (
    copy_blocks,
    copy_blocks_reference,
    gather_blocks,
    gather_blocks_reference,
    scatter_blocks,
    scatter_blocks_reference,
)

MOVED_BYTES = (4 if MINIATURE else 512 if DEVICE == "cuda" else 64) << 20
MOST_CALLS = 4096  # of a loop over blocks on a GPU: a loop over more takes seconds, and its figure says no more
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
    run_length = min(run_length, num_blocks // 4)
    num_runs = max(1, num_blocks // (4 * run_length))
    src, dst = (random.permutation(num_blocks // run_length)[:num_runs] * run_length for _ in range(2))
    return np.stack([src, dst, np.full(num_runs, run_length)], axis=1)


def time_it(benchmark, call, *, op, impl, size, layout, num_blocks, **facts):
    """Bytes are counted once read and once written."""
    block = BLOCKS[size]
    facts |= {"op": op, "impl": impl.__name__, "size": size, "layout": layout}
    facts |= {"dtype": "bfloat16", "shape": [num_blocks, *block]}
    num_bytes = 2 * num_blocks * 2 * torch.Size(block).numel()
    measure(benchmark, call, group=f"{op} {size} {layout}", num_bytes=num_bytes, **facts)


def skip_long_loops(impl, num_calls):
    loops = impl.__name__ in ("gather_per_block", "scatter_per_block", "copy_per_run")
    if DEVICE == "cuda" and loops and num_calls > MOST_CALLS:
        pytest.skip(f"{num_calls} calls, more than {MOST_CALLS}")


def same(left, right):
    return torch.equal(left.view(torch.int16), right.view(torch.int16))


@each_layout
@each_size
@pytest.mark.parametrize("impl", [gather_per_block, gather_blocks_reference, gather_blocks, gather_into_out])
def test_gather(benchmark, impl, size, layout):
    src, ids = make_pool(layout, BLOCKS[size])
    skip_long_loops(impl, len(ids))
    assert same(impl(src, ids), src[ids.to(DEVICE)])
    facts = {"op": "gather", "impl": impl, "size": size, "layout": layout}
    time_it(benchmark, lambda: impl(src, ids), num_blocks=len(ids), **facts)


@each_layout
@each_size
@pytest.mark.parametrize("impl", [scatter_per_block, scatter_blocks_reference, scatter_blocks])
def test_scatter(benchmark, impl, size, layout):
    dst, ids = make_pool(layout, BLOCKS[size])
    skip_long_loops(impl, len(ids))
    blocks = dst.flip(0)[: len(ids)].contiguous()
    expected = dst.clone()
    expected.view(torch.int16)[ids.to(DEVICE)] = blocks.view(torch.int16)
    impl(blocks, dst, ids)
    assert same(dst, expected)
    facts = {"op": "scatter", "impl": impl, "size": size, "layout": layout}
    time_it(benchmark, lambda: impl(blocks, dst, ids), num_blocks=len(ids), **facts)


@pytest.mark.parametrize("run_length", RUN_LENGTHS)
@each_layout
@each_size
@pytest.mark.parametrize("impl", [copy_per_run, copy_blocks_reference, copy_blocks])
def test_copy_of_runs(benchmark, impl, size, layout, run_length):
    src, _ = make_pool(layout, BLOCKS[size])
    dst = torch.zeros_like(src)
    runs = make_runs(len(src), run_length)
    skip_long_loops(impl, len(runs))
    expected = torch.zeros_like(src)
    for src_start, dst_start, num_blocks in runs.tolist():
        expected[dst_start : dst_start + num_blocks] = src[src_start : src_start + num_blocks]
    impl(src, dst, runs)
    assert same(dst, expected)
    facts = {"op": "copy of runs", "impl": impl, "size": size, "layout": layout, "run_length": run_length}
    time_it(benchmark, lambda: impl(src, dst, runs), num_blocks=int(runs[:, 2].sum()), **facts)

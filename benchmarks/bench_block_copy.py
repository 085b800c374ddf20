"""Gather and scatter of scattered blocks: ours, plain indexing, and the loop over blocks that engines write today.

Run: ``pytest benchmarks/bench_block_copy.py``. On CUDA where there is a device, else on the CPU with one torch thread;
every time includes the synchronisation. The moved bytes exceed the caches, and a pool is four times what is moved.
"""

from __future__ import annotations

import pytest
import torch

from fastswitch.kernels import gather_blocks, gather_blocks_reference, scatter_blocks, scatter_blocks_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MOVED_BYTES = (1024 if DEVICE == "cuda" else 64) << 20
# name |-> (layers, 2, block_size, heads, dim) of a block in bfloat16
BLOCKS = {"32KiB": (1, 2, 16, 4, 128), "256KiB": (4, 2, 16, 8, 128), "2MiB": (32, 2, 16, 8, 128)}


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


def scatter_per_block(blocks, dst, ids):
    for i, block_id in enumerate(ids.tolist()):
        dst[block_id].copy_(blocks[i], non_blocking=True)


def make_pool(layout, block_shape):
    """A pool of random bytes ``[num_blocks, *block_shape]``, and ids of a quarter of its blocks, scattered."""
    num_moved = MOVED_BYTES // (2 * torch.Size(block_shape).numel())
    layers, two, *rest = block_shape
    shape = (4 * num_moved, *block_shape) if layout == "block_major" else (layers, two, 4 * num_moved, *rest)
    memory = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, device=DEVICE).view(torch.bfloat16)
    pool = memory if layout == "block_major" else memory.permute(2, 0, 1, 3, 4, 5)
    ids = torch.randperm(4 * num_moved, generator=torch.Generator().manual_seed(0))[:num_moved]
    return pool, ids


def synchronised(call):
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure(benchmark, call, *, group, num_bytes):
    """Time the call with its synchronisation; bytes are counted once read and once written."""
    benchmark.group = f"{group} {DEVICE}"
    benchmark.pedantic(synchronised, args=(call,), rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["GB/s"] = round(2 * num_bytes / benchmark.stats.stats.min / 1e9, 2)
        benchmark.extra_info["device"] = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def same(left, right):
    return torch.equal(left.view(torch.int16), right.view(torch.int16))


@pytest.mark.parametrize("layout", ["block_major", "layer_major"])
@pytest.mark.parametrize("size", BLOCKS)
@pytest.mark.parametrize("impl", [gather_per_block, gather_blocks_reference, gather_blocks])
def test_gather(benchmark, impl, size, layout):
    src, ids = make_pool(layout, BLOCKS[size])
    assert same(impl(src, ids), src[ids.to(DEVICE)])
    measure(benchmark, lambda: impl(src, ids), group=f"gather {size} {layout}", num_bytes=MOVED_BYTES)


@pytest.mark.parametrize("layout", ["block_major", "layer_major"])
@pytest.mark.parametrize("size", BLOCKS)
@pytest.mark.parametrize("impl", [scatter_per_block, scatter_blocks_reference, scatter_blocks])
def test_scatter(benchmark, impl, size, layout):
    dst, ids = make_pool(layout, BLOCKS[size])
    blocks = dst.flip(0)[: len(ids)].contiguous()
    expected = dst.clone()
    expected.view(torch.int16)[ids.to(DEVICE)] = blocks.view(torch.int16)
    impl(blocks, dst, ids)
    assert same(dst, expected)
    measure(benchmark, lambda: impl(blocks, dst, ids), group=f"scatter {size} {layout}", num_bytes=MOVED_BYTES)

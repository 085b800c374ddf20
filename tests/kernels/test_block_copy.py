"""Block copies against their references, byte for byte: all memory is compared, so that no neighbour may change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import (
    copy_blocks,
    copy_blocks_reference,
    gather_blocks,
    gather_blocks_reference,
    scatter_blocks,
    scatter_blocks_reference,
)
from fastswitch.kernels._copy_kernel import TILE_BYTES
from tests.kernels.backends import DTYPES, LAYOUTS, make_pool, on_every_backend, random_bytes, same_bytes
from tests.kernels.drawn_runs import disjoint_runs, expanded, filling_runs

FEW = settings(deadline=None, max_examples=60)
layouts, dtypes = st.sampled_from(LAYOUTS), st.sampled_from(DTYPES)
block_shapes = st.tuples(
    st.integers(1, 3), st.just(2), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, 3, 4, 8, 16])
)
pool_sizes = st.integers(1, 7)
id_dtypes = st.sampled_from([np.int32, np.int64, torch.int32, torch.int64])


def as_ids(ids, dtype):
    return torch.tensor(ids, dtype=dtype) if isinstance(dtype, torch.dtype) else np.array(ids, dtype=dtype)


@on_every_backend
@given(data=st.data(), layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes, id_dtype=id_dtypes)
@FEW
def test_gather_equals_reference(device, data, layout, dtype, shape, num_blocks, id_dtype):
    ids = data.draw(st.lists(st.integers(0, num_blocks - 1), max_size=9))
    src, _ = make_pool(layout, num_blocks, shape, dtype, seed=1, device=device)
    blocks = gather_blocks(src, as_ids(ids, id_dtype))
    assert blocks.is_contiguous()
    expected_src, _ = make_pool(layout, num_blocks, shape, dtype, seed=1)
    assert same_bytes(blocks, gather_blocks_reference(expected_src, torch.tensor(ids, dtype=torch.int64)))


@on_every_backend
@given(data=st.data(), layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes, id_dtype=id_dtypes)
@FEW
def test_scatter_equals_reference(device, data, layout, dtype, shape, num_blocks, id_dtype):
    ids = data.draw(st.lists(st.integers(0, num_blocks - 1), unique=True))
    blocks = random_bytes((len(ids), *shape), dtype, seed=2, device=device)
    dst, memory = make_pool(layout, num_blocks, shape, dtype, seed=1, device=device)
    expected, expected_memory = make_pool(layout, num_blocks, shape, dtype, seed=1)
    scatter_blocks(blocks, dst, as_ids(ids, id_dtype))
    scatter_blocks_reference(blocks.cpu(), expected, torch.tensor(ids, dtype=torch.int64))
    assert same_bytes(memory, expected_memory)


@on_every_backend
@given(data=st.data(), src_layout=layouts, dst_layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes)
@FEW
def test_copy_equals_reference(device, data, src_layout, dst_layout, dtype, shape, num_blocks):
    dst_ids = data.draw(st.lists(st.integers(0, num_blocks - 1), unique=True))
    src_ids = data.draw(st.lists(st.integers(0, 4), min_size=len(dst_ids), max_size=len(dst_ids)))
    src, src_memory = make_pool(src_layout, 5, shape, dtype, seed=1, device=device)
    dst, memory = make_pool(dst_layout, num_blocks, shape, dtype, seed=2, device=device)
    expected_src, expected_src_memory = make_pool(src_layout, 5, shape, dtype, seed=1)
    expected, expected_memory = make_pool(dst_layout, num_blocks, shape, dtype, seed=2)
    src_ids, dst_ids = torch.tensor(src_ids, dtype=torch.int64), torch.tensor(dst_ids, dtype=torch.int64)
    copy_blocks(src, dst, src_ids.numpy(), dst_ids)
    copy_blocks_reference(expected_src, expected, src_ids, dst_ids)
    assert same_bytes(memory, expected_memory)
    assert same_bytes(src_memory, expected_src_memory)


@on_every_backend
@given(data=st.data(), layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes, tensor=st.booleans())
@FEW
def test_gather_of_runs_equals_reference(device, data, layout, dtype, shape, num_blocks, tensor):
    runs = data.draw(filling_runs(num_blocks))
    src, _ = make_pool(layout, num_blocks, shape, dtype, seed=1, device=device)
    blocks = gather_blocks(src, torch.from_numpy(runs) if tensor else runs.astype(np.int32))
    expected_src, _ = make_pool(layout, num_blocks, shape, dtype, seed=1)
    assert blocks.is_contiguous()
    assert same_bytes(blocks, gather_blocks_reference(expected_src, runs))
    src_ids, positions = expanded(runs)
    by_ids = gather_blocks_reference(expected_src, torch.tensor(src_ids, dtype=torch.int64))
    assert same_bytes(blocks[positions], by_ids)


@on_every_backend
@given(data=st.data(), layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes)
@FEW
def test_scatter_of_runs_equals_reference(device, data, layout, dtype, shape, num_blocks):
    runs = data.draw(disjoint_runs(5, num_blocks))
    blocks = random_bytes((5, *shape), dtype, seed=2, device=device)
    dst, memory = make_pool(layout, num_blocks, shape, dtype, seed=1, device=device)
    expected, expected_memory = make_pool(layout, num_blocks, shape, dtype, seed=1)
    by_ids, by_ids_memory = make_pool(layout, num_blocks, shape, dtype, seed=1)
    scatter_blocks(blocks, dst, runs)
    scatter_blocks_reference(blocks.cpu(), expected, runs)
    assert same_bytes(memory, expected_memory)
    positions, dst_ids = expanded(runs)
    scatter_blocks_reference(blocks.cpu()[positions], by_ids, torch.tensor(dst_ids, dtype=torch.int64))
    assert same_bytes(memory, by_ids_memory)


@on_every_backend
@given(data=st.data(), src_layout=layouts, dst_layout=layouts, dtype=dtypes, shape=block_shapes, num_blocks=pool_sizes)
@FEW
def test_copy_of_runs_equals_reference(device, data, src_layout, dst_layout, dtype, shape, num_blocks):
    runs = data.draw(disjoint_runs(5, num_blocks))
    src, src_memory = make_pool(src_layout, 5, shape, dtype, seed=1, device=device)
    dst, memory = make_pool(dst_layout, num_blocks, shape, dtype, seed=2, device=device)
    expected_src, expected_src_memory = make_pool(src_layout, 5, shape, dtype, seed=1)
    expected, expected_memory = make_pool(dst_layout, num_blocks, shape, dtype, seed=2)
    copy_blocks(src, dst, runs)
    copy_blocks_reference(expected_src, expected, runs)
    assert same_bytes(memory, expected_memory)
    assert same_bytes(src_memory, expected_src_memory)


@on_every_backend
@pytest.mark.parametrize("layout", ["block_major", "layer_major", "layers"])
@pytest.mark.parametrize("out_layout", ["block_major", "layer_major", "padded"])
@pytest.mark.parametrize("by", ["ids", "runs"])
def test_gather_to_the_front_of_out(device, by, out_layout, layout):
    shape = (2, 2, 4, 1, 8)
    src, _ = make_pool(layout, 6, shape, torch.bfloat16, seed=1, device=device)
    out, memory = make_pool(out_layout, 5, shape, torch.bfloat16, seed=2, device=device)
    expected, expected_memory = make_pool(out_layout, 5, shape, torch.bfloat16, seed=2, device=device)
    ids = np.array([4, 5, 1])
    blocks = gather_blocks(src, ids if by == "ids" else np.array([[1, 2, 1], [4, 0, 2]]), out=out)
    assert blocks.data_ptr() == out.data_ptr()
    expected[:3] = gather_blocks_reference(src, torch.from_numpy(ids).to(device))
    assert same_bytes(blocks, expected[:3])
    assert same_bytes(memory, expected_memory)


@on_every_backend
def test_long_runs_of_several_calls(device):
    """On the CPU: the mean run takes a slice, then an indexed call, and several of these."""
    pool = random_bytes((40, 1 << 18), torch.uint8, seed=6, device=device)
    for runs in (np.array([[20, 2, 4], [3, 9, 5]]), np.array([[20 + i, 2 * i, 1] for i in range(20)])):
        dst = torch.zeros_like(pool)
        copy_blocks(pool, dst, runs)
        expected = torch.zeros_like(pool)
        copy_blocks_reference(pool, expected, runs)
        assert torch.equal(dst, expected)
        src_ids, dst_ids = map(np.array, expanded(runs))
        by_ids = torch.zeros_like(pool)
        copy_blocks(pool, by_ids, src_ids, dst_ids)
        assert torch.equal(by_ids, expected)
        assert torch.equal(gather_blocks(pool, src_ids), pool[src_ids])


@on_every_backend
@pytest.mark.parametrize("surplus", [-16, -1, 0, 1, 8, 16])
def test_blocks_of_several_tiles(device, surplus):
    src = random_bytes((3, 2 * TILE_BYTES + surplus), torch.uint8, seed=3, device=device)
    blocks = gather_blocks(src, np.array([2, 0, 2]))
    assert torch.equal(blocks, src[[2, 0, 2]])
    dst = torch.zeros_like(src)
    copy_blocks(src, dst, np.array([1]), np.array([2]))
    assert torch.equal(dst[2], src[1])
    assert not dst[:2].any()


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_payloads_survive(device, dtype):
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    signalling = torch.full((4, 6), float("inf"), dtype=dtype).view(integers) + torch.arange(1, 25).view(4, 6).to(
        integers
    )
    src = signalling.to(device).view(dtype)
    assert src.isnan().all()
    assert torch.equal(gather_blocks(src, np.array([3, 1])).view(integers), src.view(integers)[[3, 1]])


@on_every_backend
def test_copy_within_one_pool(device):
    pool, _ = make_pool("layer_major", 6, (2, 2, 4, 1, 8), torch.bfloat16, seed=1, device=device)
    before = pool.clone()
    copy_blocks(pool, pool, np.array([0, 0, 5]), np.array([1, 3, 2]))
    assert same_bytes(pool[[1, 3, 2]], before[[0, 0, 5]])
    assert same_bytes(pool[[0, 4, 5]], before[[0, 4, 5]])


@on_every_backend
def test_two_threads_at_once(device):
    src = random_bytes((8, 4096), torch.uint8, seed=4, device=device)
    results = [[], []]

    def gather_often(found):
        found.extend(gather_blocks(src, np.array([7, i % 8])) for i in range(20))

    threads = [threading.Thread(target=gather_often, args=(found,)) for found in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in results:
        assert [torch.equal(blocks, src[[7, i % 8]]) for i, blocks in enumerate(found)] == [True] * 20


@on_every_backend
def test_ids_that_live_with_the_blocks(device):
    src = random_bytes((8, 64), torch.uint8, seed=5, device=device)
    ids = torch.tensor([6, 1, 1], dtype=torch.int32, device=device)
    assert torch.equal(gather_blocks(src, ids), src[[6, 1, 1]])


def test_works_without_triton():
    program = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import numpy as np, torch
from fastswitch.kernels import gather_blocks
assert gather_blocks(torch.arange(6).view(3, 2), np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
"""
    root = Path(__file__).parents[2]
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

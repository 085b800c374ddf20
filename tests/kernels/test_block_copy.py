"""Block copies against their references, byte for byte: all memory is compared, so that no neighbour may change."""

from __future__ import annotations

import os
import re
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


POOL = torch.zeros(4, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gather_blocks(POOL, torch.tensor([1.0])), TypeError, "block_ids must be integers, got torch.float32"),
        (lambda: gather_blocks(POOL, np.array([True])), TypeError, "block_ids must be integers, got bool"),
        (lambda: gather_blocks(POOL, [1]), TypeError, "block_ids must be a tensor or a numpy array, got list"),
        (lambda: gather_blocks(POOL, np.array([0, 4])), IndexError, "block_ids must be in [0, 4), got 4 at index 1"),
        (lambda: gather_blocks(POOL, np.array([-1])), IndexError, "block_ids must be in [0, 4), got -1 at index 0"),
        (
            lambda: gather_blocks(POOL, np.array([[1]])),
            ValueError,
            "block_ids must be one-dimensional, got shape (1, 1)",
        ),
        (
            lambda: scatter_blocks(POOL[:2], POOL, np.array([3, 3])),
            ValueError,
            "block_ids must not repeat a destination, got block 3 2 times",
        ),
        (
            lambda: scatter_blocks(POOL[:2], POOL, np.array([3])),
            ValueError,
            "blocks and block_ids must have one length, got 2 and 1",
        ),
        (
            lambda: scatter_blocks(POOL[:1, :1], POOL, np.array([3])),
            ValueError,
            "blocks and dst must have one block shape, got (1, 3) and (2, 3)",
        ),
        (
            lambda: copy_blocks(POOL.half(), POOL, np.array([1]), np.array([1])),
            TypeError,
            "src and dst must have one dtype, got torch.float16 and torch.float32",
        ),
        (
            lambda: copy_blocks(POOL.to("meta"), POOL, np.array([1]), np.array([1])),
            ValueError,
            "src and dst must be on one device, got meta and cpu",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([1, 2]), np.array([1])),
            ValueError,
            "src_ids and dst_ids must have one length, got 2 and 1",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([1, 2]), np.array([1, 1])),
            ValueError,
            "dst_ids must not repeat a destination, got block 1 2 times",
        ),
        (
            lambda: copy_blocks(POOL, POOL, np.array([1, 2]), np.array([2, 3])),
            ValueError,
            "src_ids and dst_ids must be disjoint within one pool, got block 2 in both",
        ),
        (lambda: gather_blocks((), np.array([0])), ValueError, "src must have blocks on dim 0, got an empty tuple"),
        (
            lambda: gather_blocks(None, np.array([0])),
            TypeError,
            "src must be a tensor or a tuple of tensors, got NoneType",
        ),
        (
            lambda: gather_blocks((POOL, POOL[:2]), np.array([0])),
            ValueError,
            "layers of src must have one shape, dtype and device, got 2 kinds",
        ),
        (
            lambda: gather_blocks(POOL, torch.zeros(1, dtype=torch.int64, device="meta")),
            ValueError,
            "block_ids must be on the host or on cpu, where the blocks are, got meta",
        ),
        (
            lambda: gather_blocks(POOL, torch.zeros(1, dtype=torch.int16, device="meta")),
            TypeError,
            "block_ids on a device must be int32 or int64, got torch.int16",
        ),
    ],
)
def test_bad_input(call, error, message):
    before = POOL.clone()
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()
    assert torch.equal(POOL, before)

"""Block copies between the pools of `fastswitch.memory` and a foreign engine's, and in pools beyond 2**31 elements."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch

from fastswitch.kernels import block_copy, copy_blocks, gather_blocks, scatter_blocks
from fastswitch.kernels._triton import takes_kernel
from fastswitch.memory.layout import KVLayout
from fastswitch.memory.pool import KVPool
from tests.kernels.backends import in_large_memory, on_every_backend, random_bytes, same_bytes

LAYERS, HEADS, DIM, BLOCK_SIZE = 3, 2, 8, 4
MAP_NORESERVE = 0x4000  # Linux; Python names it from 3.13 on


def sides(pool):
    """The keys and values of every layer: what all pools have."""
    return tuple(side for layer in range(pool.layout.num_layers) for side in (pool.k(layer), pool.v(layer)))


def whole_blocks(pool):
    return torch.stack(sides(pool), dim=1)


# name |-> the blocks of (a pool that wraps these tensors, a pool of ours)
SEEN_AS = {
    "sides": lambda wrapped, _tensors, owned: (sides(wrapped), sides(owned)),
    "layers": lambda _wrapped, tensors, owned: (tuple(tensor.transpose(0, 1) for tensor in tensors), owned.blocks),
    "planes": lambda wrapped, _tensors, owned: (wrapped.planes, owned.planes),
}


@pytest.fixture
def launches(monkeypatch):
    """The launches of block copies, by what they copy."""
    found = []
    for name in ("launch_ids", "launch_runs"):
        launch = getattr(block_copy, name)
        monkeypatch.setattr(
            block_copy, name, lambda *args, name=name, launch=launch: (found.append(name), launch(*args))
        )
    return found


@on_every_backend
@pytest.mark.parametrize("by", ["ids", "runs"])
@pytest.mark.parametrize("towards", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("seen_as", "order"),
    [
        ("sides", "block_major"),
        ("sides", "layer_major"),
        ("layers", "block_major"),
        ("layers", "layer_major"),
        ("planes", "layer_major"),
    ],
)
def test_wrapped_pools_in_one_launch(device, seen_as, order, towards, by, launches):
    shape = (2, 7, BLOCK_SIZE, HEADS, DIM)
    tensors = [random_bytes(shape, torch.bfloat16, seed=layer, device=device) for layer in range(LAYERS)]
    wrapped = KVPool.wrap(tensors)
    owned = KVPool(KVLayout(LAYERS, HEADS, DIM, BLOCK_SIZE, "bfloat16", order), 9, device)
    for i, side in enumerate(sides(owned)):
        side.copy_(random_bytes(side.shape, torch.bfloat16, seed=50 + i))
    theirs, ours = SEEN_AS[seen_as](wrapped, tensors, owned)
    src, dst, src_pool, dst_pool = (
        (theirs, ours, wrapped, owned) if towards == "ours" else (ours, theirs, owned, wrapped)
    )
    before, source = whole_blocks(dst_pool), whole_blocks(src_pool)
    src_ids, dst_ids = np.array([1, 2, 3, 6]), np.array([4, 5, 6, 0])
    if by == "ids":
        copy_blocks(src, dst, src_ids, dst_ids)
    else:
        copy_blocks(src, dst, np.array([[6, 0, 1], [1, 4, 3]]))
    before[dst_ids] = source[src_ids]
    assert same_bytes(whole_blocks(dst_pool), before)
    assert same_bytes(whole_blocks(src_pool), source)
    assert launches == ([f"launch_{by}"] if takes_kernel(dst_pool.device) else [])


def far_memory(num_elements, device):
    """int32 memory that is only reserved, not used, on the CPU: pages exist once they are written."""
    if device == "cuda":
        return torch.empty(num_elements, dtype=torch.int32, device=device)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.from_numpy(np.frombuffer(mmap.mmap(-1, 4 * num_elements, flags=flags), dtype=np.int32))


@in_large_memory
@on_every_backend
@pytest.mark.parametrize("by", ["ids", "runs"])
@pytest.mark.parametrize(
    ("num_blocks", "stride", "numel"),
    [
        pytest.param(2**21 + 8, 1024, 1024, id="many blocks"),
        pytest.param(2**21 + 8, 1024, 1000, id="many padded blocks"),
        pytest.param(5, 2**29 + 64, 300, id="far blocks"),
    ],
)
def test_beyond_2_to_the_31_elements(device, num_blocks, stride, numel, by):
    memory = far_memory(num_blocks * stride, device)
    pool = memory.view(num_blocks, stride)[:, :numel]
    last = num_blocks - 1
    assert (last - 1) * pool.stride(0) * pool.element_size() > 2**32
    assert last * pool.stride(0) > 2**31
    assert last * pool.stride(0) * pool.element_size() > 2**33
    blocks = torch.arange(2 * numel, dtype=torch.int32, device=device).view(2, numel) + 1
    whole = np.array([[0, last - 1, 2]]), np.array([[last - 1, 0, 2]]), np.array([[last - 1, 0, 2]])
    single = np.array([last - 1, last]), np.array([last - 1, last]), np.array([0, 1])
    scattered, gathered, moved = whole if by == "runs" else single
    scatter_blocks(blocks, pool, scattered)
    assert torch.equal(pool[last - 1 :], blocks)
    assert torch.equal(gather_blocks(pool, gathered), blocks)
    if by == "runs":
        copy_blocks(pool, pool, moved)
    else:
        copy_blocks(pool, pool, gathered, moved)
    assert torch.equal(pool[:2], blocks)
    assert not pool[2:3].any() or device == "cuda"

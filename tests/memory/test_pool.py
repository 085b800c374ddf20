"""A pool's views are views: what one writes, the others read, for either order and for foreign tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastswitch.kernels import copy_blocks, gather_blocks
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool
from tests.memory.registrars import RecordingRegistrar

NUM_BLOCKS, LAYERS, BLOCK_SIZE, HEADS, HEAD_DIM = 5, 3, 4, 2, 8
DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int32", "int8", "uint8"]


def layout(order: str = "block_major", dtype: str = "float32") -> KVLayout:
    return KVLayout(LAYERS, HEADS, HEAD_DIM, BLOCK_SIZE, dtype, order)


def foreign(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.zeros(2, NUM_BLOCKS, BLOCK_SIZE, HEADS, HEAD_DIM, dtype=dtype) for _ in range(LAYERS)]


def pinned_pool(order: str = "block_major", dtype: str = "float32", **options) -> KVPool:
    return KVPool.pinned_by(RecordingRegistrar(), layout(order, dtype), NUM_BLOCKS, **options)


KINDS = {
    "block_major": lambda: KVPool(layout("block_major"), NUM_BLOCKS),
    "layer_major": lambda: KVPool(layout("layer_major"), NUM_BLOCKS),
    "wrapped": lambda: KVPool.wrap(foreign()),
    "pinned block_major": lambda: pinned_pool("block_major"),
    "pinned layer_major": lambda: pinned_pool("layer_major"),
}


@pytest.fixture(params=KINDS)
def pool(request) -> KVPool:
    pool = KINDS[request.param]()
    assert pool.pinned == request.param.startswith("pinned")
    pool.fill(np.arange(NUM_BLOCKS), 0)
    return pool


def test_shapes(pool):
    assert pool.num_blocks == NUM_BLOCKS
    assert pool.nbytes == NUM_BLOCKS * pool.layout.block_bytes == sum(plane.nbytes for plane in pool.planes)
    assert len(pool.planes) == pool.layout.pieces_per_block
    for plane in pool.planes:
        assert plane.is_contiguous()
        assert plane.dim() == 2
        assert plane[0].nbytes == pool.layout.piece_bytes
    for layer in range(LAYERS):
        assert pool.k(layer).shape == pool.v(layer).shape == (NUM_BLOCKS, BLOCK_SIZE, HEADS, HEAD_DIM)
    assert pool.device == torch.device("cpu")
    assert len(pool.layers) == LAYERS
    for each in pool.layers:
        assert each.shape == (NUM_BLOCKS, 2, BLOCK_SIZE, HEADS, HEAD_DIM)
    assert pool.blocks_per_piece is None


def test_the_sides_are_views_of_the_planes(pool):
    for layer in range(LAYERS):
        pool.k(layer)[:] = 2 * layer
        pool.v(layer)[:] = 2 * layer + 1
    sides = torch.stack([plane.view(NUM_BLOCKS, -1, BLOCK_SIZE * HEADS * HEAD_DIM) for plane in pool.planes])
    # [planes, num_blocks, sides of a plane, numel] |-> [num_blocks, 2 * num_layers, numel]
    by_side = sides.transpose(0, 1).flatten(1, 2)
    expected = torch.arange(2.0 * LAYERS)[None, :, None].expand_as(by_side)
    assert torch.equal(by_side, expected)


def test_the_layers_are_views_of_the_sides(pool):
    for number, each in enumerate(pool.layers):
        each[:, 0], each[:, 1] = 2 * number + 1, 2 * number + 2
        assert (pool.k(number) == 2 * number + 1).all()
        assert (pool.v(number) == 2 * number + 2).all()


def test_the_layers_are_blocks_to_the_copy_kernels(pool):
    for number, each in enumerate(pool.layers):
        each[:] = torch.randn(each.shape, generator=torch.Generator().manual_seed(number))
    blocks = gather_blocks(pool.layers, np.array([3, 1]))
    assert torch.equal(blocks, torch.stack(pool.layers, 1)[[3, 1]])
    other = KVPool(layout(), NUM_BLOCKS)
    copy_blocks(pool.layers, other.layers, np.array([3, 1]), np.array([0, 4]))
    assert torch.equal(other.blocks[[0, 4]], blocks)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrapped"])
def test_blocks_is_a_view_of_the_same_memory(kind):
    pool = KINDS[kind]()
    assert pool.blocks.shape == (NUM_BLOCKS, LAYERS, 2, BLOCK_SIZE, HEADS, HEAD_DIM)
    pool.blocks[:] = torch.arange(float(pool.blocks.numel())).view(pool.blocks.shape)
    for layer in range(LAYERS):
        assert torch.equal(pool.k(layer), pool.blocks[:, layer, 0])
        assert torch.equal(pool.v(layer), pool.blocks[:, layer, 1])
    assert {plane.untyped_storage().data_ptr() for plane in pool.planes} == {pool.blocks.untyped_storage().data_ptr()}


def test_wrap_copies_nothing():
    tensors = foreign(torch.bfloat16)
    pool = KVPool.wrap(tensors)
    assert pool.layout == layout("layer_major", "bfloat16")
    assert [plane.data_ptr() for plane in pool.planes] == [half.data_ptr() for tensor in tensors for half in tensor]
    pool.v(1)[2] = 7
    assert (tensors[1][1, 2] == 7).all()
    with pytest.raises(ValueError, match="^a wrapped pool has no single view of its blocks; use planes$"):
        _ = pool.blocks


@pytest.mark.parametrize("order", ["block_major", "layer_major"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pinned", [False, True])
def test_poison_hits_these_blocks_alone(order, dtype, pinned):
    pool = pinned_pool(order, dtype) if pinned else KVPool(layout(order, dtype), NUM_BLOCKS)
    pool.fill(range(NUM_BLOCKS), 3)
    assert (pool.blocks.to(torch.float64) == 3).all()
    pool.poison([1, 4])
    as_float = pool.blocks.to(torch.float64)
    assert (as_float[[0, 2, 3]] == 3).all()
    if pool.blocks.is_floating_point():
        assert as_float[[1, 4]].isnan().all()
    else:
        assert (as_float[[1, 4]] == (255 if dtype == "uint8" else -1)).all()


@pytest.mark.parametrize("ids", [[2, 0], (2, 0), np.array([2, 0], np.int32), torch.tensor([2, 0])])
def test_fill_takes_any_ids(pool, ids):
    pool.fill(ids, 1.5)
    for layer in range(LAYERS):
        for side in (pool.k(layer), pool.v(layer)):
            assert side.flatten(1).mean(1).tolist() == [1.5, 0, 1.5, 0, 0]


def test_fill_nothing(pool):
    pool.poison([])
    assert not any(plane.isnan().any() for plane in pool.planes)


@pytest.mark.parametrize("block_id", [-1, NUM_BLOCKS])
def test_fill_outside_the_pool(pool, block_id):
    with pytest.raises(IndexError) as caught:
        pool.poison([0, block_id])
    assert str(caught.value) == f"block_ids must be in [0, {NUM_BLOCKS}), got {block_id}"
    assert not any(plane.isnan().any() for plane in pool.planes)


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_no_such_layer(pool, layer):
    for view in (pool.k, pool.v):
        with pytest.raises(IndexError) as caught:
            view(layer)
        assert str(caught.value) == f"layer must be in [0, {LAYERS}), got {layer}"


def test_a_pool_has_at_least_one_block():
    registrar = RecordingRegistrar()
    for make in (KVPool, lambda *args: KVPool.pinned_by(registrar, *args)):
        with pytest.raises(ValueError, match="^a pool needs at least one block, got 0$"):
            make(layout(), 0)
    assert not registrar.calls


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [], "tensors must not be empty"),
        (
            lambda t: [t[0], t[1][0]],
            "the tensor of layer 1 must be [2, num_blocks, block_size, num_kv_heads, head_dim], got shape [5, 4, 2, 8]",
        ),
        (
            lambda t: [t[0], t[1].half()],
            "the tensor of layer 1 must have dtype torch.float32 as layer 0, got torch.float16",
        ),
        (
            lambda t: [t[0], t[1][:, :3]],
            "the tensor of layer 1 must have shape [2, 5, 4, 2, 8] as layer 0, got [2, 3, 4, 2, 8]",
        ),
        (
            lambda t: [t[0].transpose(2, 3)],
            (
                "the K and the V of layer 0 must be contiguous, got strides (320, 64, 8, 16, 1): "
                "fastswitch.kernels.copy_blocks takes caches in other orders"
            ),
        ),
    ],
)
def test_wrap_refuses(change, message):
    with pytest.raises(ValueError) as caught:
        KVPool.wrap(change(foreign()))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.stack, "tensors must be a list, one per layer, got one of shape [3, 2, 5, 4, 2, 8]: unbind it"),
        (lambda t: [t[0], None], "what is given for layer 1 must be a torch tensor, got NoneType"),
    ],
)
def test_wrap_refuses_what_is_no_list_of_tensors(change, message):
    with pytest.raises(TypeError) as caught:
        KVPool.wrap(change(foreign()))
    assert str(caught.value) == message


def test_wrap_refuses_no_blocks():
    with pytest.raises(ValueError, match=r"got shape \[2, 0, 4, 2, 8\]$"):
        KVPool.wrap([each[:, :0] for each in foreign()])


def test_wrap_refuses_memory_that_is_given_twice():
    first, second, *_ = foreign()
    with pytest.raises(ValueError, match=r"those of 0 and 2 are one$"):
        KVPool.wrap([first, second, first])
    with pytest.raises(ValueError, match=r"those of 0 and 0 are one$"):
        KVPool.wrap([first[:1].expand(2, *first.shape[1:])])

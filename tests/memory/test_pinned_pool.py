"""Pools in page-locked memory: every block in one piece, the same views as ever, unlocked with the last of them."""

from __future__ import annotations

import gc
import mmap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.memory import KVLayout, cut_runs
from fastswitch.memory.cuda_registrar import CudaRegistrar
from fastswitch.memory.pool import KVPool
from tests.memory.registrars import RecordingRegistrar, is_mapped
from tests.memory.test_pool import DTYPES, NUM_BLOCKS, layout


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_pinned_needs_cuda():
    with pytest.raises(RuntimeError, match="^pinned memory needs a CUDA device; use pinned=False$"):
        KVPool(layout(), 2, pinned=True)


def test_pinned_memory_is_host_memory():
    with pytest.raises(ValueError, match="^a pinned pool lies on the cpu, got device meta$"):
        KVPool(layout(), 2, device="meta", pinned=True)


def address_ranges(pool, start, end):
    """Where blocks ``[start, end)`` lie: [address, end address) in each plane."""
    return [(plane[start].data_ptr(), plane[start].data_ptr() + plane[start:end].nbytes) for plane in pool.planes]


def pieces_around(registrar, start, end):
    """How many registered pieces have a byte of [start, end), and whether one has all."""
    pieces = [(address, address + num_bytes) for address, num_bytes in registrar.pieces.items()]
    touched = [(first, last) for first, last in pieces if first < end and start < last]
    return len(touched), any(first <= start and end <= last for first, last in touched)


@st.composite
def pinned_pools(draw):
    """A pool of any order, dtype and odd shape, with small pieces; and what page-locked it."""
    shape = [draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 8, 64]))]
    block_size = draw(st.sampled_from([1, 2, 3, 16]))
    order = draw(st.sampled_from(["block_major", "layer_major"]))
    drawn = KVLayout(*shape, block_size, draw(st.sampled_from(DTYPES)), order)
    registrar = RecordingRegistrar()
    max_piece_bytes = draw(st.integers(1, 6)) * mmap.PAGESIZE
    many = min(9000, 6 + 2**19 // drawn.block_bytes)
    num_blocks = draw(st.integers(1, 6) | st.integers(many // 2, many))
    return KVPool.pinned_by(registrar, drawn, num_blocks, max_piece_bytes=max_piece_bytes), registrar


@given(pinned_pools())
@settings(max_examples=60)
def test_every_block_lies_in_one_piece_and_pieces_share_no_page(made):
    pool, registrar = made
    end = 0
    for address, num_bytes in sorted(registrar.pieces.items()):
        assert address % mmap.PAGESIZE == num_bytes % mmap.PAGESIZE == 0
        assert address >= end
        end = address + num_bytes
    edge = pool.blocks_per_piece or 0
    some = {*range(6), *range(edge - 2, edge + 2), *range(2 * edge - 1, 2 * edge + 1), pool.num_blocks - 1}
    for block_id in some & set(range(pool.num_blocks)):
        for start, end in address_ranges(pool, block_id, block_id + 1):
            assert pieces_around(registrar, start, end) == (1, True)


@given(pinned_pools())
@settings(max_examples=60)
def test_runs_that_are_cut_lie_in_one_piece_of_each_plane(made):
    pool, registrar = made
    every = pool.blocks_per_piece
    whole = np.array([[0, 5, pool.num_blocks]])
    as_source = cut_runs(whole, src_every=every)[:, [0, 2]]
    as_destination = cut_runs(whole[:, [1, 0, 2]], dst_every=every)[:, [1, 2]]
    assert (as_source == as_destination).all()
    assert len(registrar.pieces) == len(as_source) * len(pool.planes)
    for start, num_blocks in as_source.tolist():
        for range_start, range_end in address_ranges(pool, start, start + num_blocks):
            assert pieces_around(registrar, range_start, range_end) == (1, True)


@given(pinned_pools())
@settings(max_examples=60)
def test_the_memory_is_as_large_as_the_blocks_but_for_the_rest_of_a_page_a_plane(made):
    pool, registrar = made
    assert 0 <= sum(registrar.pieces.values()) - pool.nbytes < mmap.PAGESIZE * len(pool.planes)


@given(pinned_pools(), st.data())
@settings(max_examples=60)
def test_views_of_pinned_memory_are_those_of_other_memory(made, data):
    pool, _ = made
    plain = KVPool(pool.layout, pool.num_blocks)
    ids = data.draw(st.lists(st.integers(0, pool.num_blocks - 1), max_size=4))
    for each in (pool, plain):
        for number, plane in enumerate(each.planes):
            plane.view(torch.uint8)[:] = number + 1
        each.fill(ids[:2], 1)
        each.poison(ids[2:])
    assert torch.equal(pool.blocks.view(torch.uint8), plain.blocks.view(torch.uint8))
    assert [each.shape for each in pool.planes] == [each.shape for each in plain.planes]
    assert all(each.is_contiguous() for each in pool.planes)
    for number in range(pool.layout.num_layers):
        assert pool.k(number).data_ptr() == pool.layers[number][:, 0].data_ptr() == pool.blocks[:, number, 0].data_ptr()


@pytest.mark.parametrize("order", ["block_major", "layer_major"])
@pytest.mark.parametrize(
    "view",
    [
        lambda pool: pool.planes[-1],
        lambda pool: pool.layers[0],
        lambda pool: pool.k(1),
        lambda pool: pool.blocks[3],
        lambda pool: pool.planes[0].view(torch.uint8).numpy()[1:],
    ],
    ids=["plane", "layer", "side", "block", "numpy"],
)
def test_a_view_outlives_its_pool_and_the_last_one_unregisters(order, view):
    registrar = RecordingRegistrar()
    pool = KVPool.pinned_by(registrar, layout(order), 100, max_piece_bytes=2 * mmap.PAGESIZE)
    assert pool.blocks_per_piece is not None
    last, address = view(pool), pool.planes[0].data_ptr()
    del pool
    gc.collect()
    assert not registrar.unregistered
    last[:] = 3
    assert (last == 3).all()
    del last
    gc.collect()
    assert sorted(registrar.unregistered) == registrar.registered
    assert not is_mapped(address)


def test_a_pool_that_cannot_be_locked_leaves_nothing_locked():
    registrar = RecordingRegistrar(fail_at=3)
    with pytest.raises(
        RuntimeError, match=r"^cannot page-lock bytes \[12288, 16384\) of 24576: out of memory \(2\); raise"
    ):
        KVPool.pinned_by(registrar, layout("layer_major"), NUM_BLOCKS)
    assert sorted(registrar.unregistered) == registrar.registered[:3]


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["block_major", "layer_major"])
def test_pinned_memory_is_pinned_and_outlives_its_pool(order):
    pool = KVPool(layout(order), NUM_BLOCKS, pinned=True)
    assert pool.pinned
    assert all(plane.is_pinned() for plane in pool.planes)
    pool.fill(range(NUM_BLOCKS), 2)
    planes = pool.planes
    del pool
    for plane in planes:
        assert plane.is_pinned()
        assert (plane.to("cuda", non_blocking=True) == 2).all()


def cuda_registrar():
    return CudaRegistrar(torch.cuda.cudart(), lambda: torch.ones((), device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["block_major", "layer_major"])
def test_asynchronous_copies_of_a_pool_in_pieces_are_right(order):
    pool = KVPool.pinned_by(cuda_registrar(), layout(order), 300, max_piece_bytes=8 * mmap.PAGESIZE)
    runs = cut_runs(np.array([[0, 0, 300]]), dst_every=pool.blocks_per_piece)
    assert len(runs) > 1  # how many pieces there are depends on the order
    device_pool = KVPool(layout(order), 300, "cuda")
    device_pool.blocks.copy_(torch.randn(device_pool.blocks.shape))
    for source, destination in zip(device_pool.planes, pool.planes, strict=True):
        for start, _, num_blocks in runs.tolist():
            end = start + num_blocks
            destination[start:end].copy_(source[start:end], non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(pool.blocks, device_pool.blocks.cpu())


@pytest.mark.gpu
def test_dropping_a_pool_unregisters_its_memory_and_a_failure_leaves_no_error():
    class Watching(CudaRegistrar):
        registered, unregistered = [], []

        def register(self, address, num_bytes):
            super().register(address, num_bytes)
            self.registered.append((address, num_bytes))

        def unregister(self, address):
            super().unregister(address)
            self.unregistered.append(address)

    registrar = Watching(torch.cuda.cudart(), lambda: torch.ones((), device="cuda"))
    pool = KVPool.pinned_by(registrar, layout("layer_major"), NUM_BLOCKS)
    with pytest.raises(RuntimeError, match=r"\(712\)$"):  # cudaErrorHostMemoryAlreadyRegistered
        cuda_registrar().register(*registrar.registered[0])
    torch.ones(8, device="cuda").add_(1)
    torch.cuda.synchronize()
    del pool
    gc.collect()
    assert sorted(registrar.unregistered) == [address for address, _ in registrar.registered]
    with pytest.raises(RuntimeError, match=r"\(713\)$"):  # cudaErrorHostMemoryNotRegistered
        cuda_registrar().unregister(registrar.registered[0][0])
    torch.ones(8, device="cuda").add_(1)
    torch.cuda.synchronize()

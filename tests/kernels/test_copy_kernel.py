"""The kernel by its launchers: grids smaller than the work, runs of unequal lengths, and a work index of 64 bits.

What the public functions reach too is in `test_block_copy`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import _copy_kernel
from fastswitch.kernels._copy_kernel import launch_ids, launch_runs
from tests.kernels.backends import INTERPRETED, gpu, make_pool, random_bytes, same_bytes
from tests.kernels.drawn_runs import as_rows, disjoint_runs, expanded

in_the_kernel = pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cpu",
            id="interpreter",
            marks=[pytest.mark.interpret, pytest.mark.skipif(not INTERPRETED, reason="TRITON_INTERPRET is not set")],
        ),
        pytest.param("cuda", id="cuda", marks=gpu),
    ],
)
FEW = settings(deadline=None, max_examples=40)
# bytes |-> of a block: odd, less than a tile, several tiles, one tile and a bit
block_bytes = st.sampled_from([1, 24, 4096, 2 * _copy_kernel.TILE_BYTES, _copy_kernel.TILE_BYTES + 16])


def tensors(device, num_bytes, paddings):
    """Memory of 12 source and of 9 destination blocks, and the pair of tensors to copy between."""
    shapes = [(num_blocks, num_bytes + padding) for num_blocks, padding in zip((12, 9), paddings, strict=True)]
    memories = [random_bytes(shape, torch.uint8, seed=i, device=device) for i, shape in enumerate(shapes)]
    return memories, tuple(memory[:, :num_bytes] for memory in memories)


@in_the_kernel
@given(
    runs=disjoint_runs(12, 9),
    num_bytes=block_bytes,
    paddings=st.tuples(st.sampled_from([0, 16]), st.sampled_from([0, 1])),
    num_programs=st.sampled_from([None, 1, 2, 5]),
)
@FEW
def test_runs_in_any_grid(device, runs, num_bytes, paddings, num_programs):
    (_, memory), (src, dst) = tensors(device, num_bytes, paddings)
    expected = memory.clone()
    src_ids, dst_ids = expanded(runs)
    expected[dst_ids, :num_bytes] = src[src_ids]
    launch_runs([(src, dst)], runs, src.device, num_programs=num_programs)
    assert torch.equal(memory, expected)


@in_the_kernel
@given(
    data=st.data(),
    num_bytes=block_bytes,
    paddings=st.tuples(st.sampled_from([0, 16]), st.sampled_from([0, 1])),
    num_programs=st.sampled_from([None, 1, 3]),
    kinds=st.tuples(*[st.sampled_from(["host", "int32", "int64"])] * 2),
)
@FEW
def test_ids_in_any_grid(device, data, num_bytes, paddings, num_programs, kinds):
    dst_ids = data.draw(st.lists(st.integers(0, 8), unique=True))
    src_ids = data.draw(st.lists(st.integers(0, 11), min_size=len(dst_ids), max_size=len(dst_ids)))
    (_, memory), (src, dst) = tensors(device, num_bytes, paddings)
    expected = memory.clone()
    expected[dst_ids, :num_bytes] = src[src_ids]
    columns = [
        np.array(ids, dtype=np.int64)
        if kind == "host"
        else torch.tensor(ids, dtype=getattr(torch, kind), device=device)
        for ids, kind in zip((src_ids, dst_ids), kinds, strict=True)
    ]
    launch_ids([(src, dst)], *columns, len(dst_ids), src.device, num_programs=num_programs)
    assert torch.equal(memory, expected)


@in_the_kernel
@pytest.mark.parametrize("num_programs", [None, 3])
def test_a_work_index_of_64_bits(device, num_programs, monkeypatch):
    monkeypatch.setattr(_copy_kernel, "MAX_INT32", 5)  # as if an int32 held no more: the index widens, the grid is cut
    (_, memory), (src, dst) = tensors(device, 48, (16, 1))
    expected = memory.clone()
    runs = np.array([[2, 0, 5], [11, 7, 1]])
    expected[[0, 1, 2, 3, 4, 7], :48] = src[[2, 3, 4, 5, 6, 11]]
    launch_runs([(src, dst)], runs, src.device, num_programs=num_programs)
    assert torch.equal(memory, expected)


@in_the_kernel
@pytest.mark.parametrize("num_programs", [None, 7])
def test_pairs_of_a_launch(device, num_programs):
    """Tensors of separate memory, of which a run is joined in some only."""
    shape = (2, 2, 4, 1, 8)
    src, _ = make_pool("layers", 6, shape, torch.bfloat16, seed=1, device=device)
    dst, memory = make_pool("block_major", 6, shape, torch.bfloat16, seed=2, device=device)
    expected = dst.clone()
    expected[1:4] = torch.stack([layer[2:5] for layer in src], dim=1)
    launch_runs(
        list(zip(src, dst.unbind(1), strict=True)), np.array([[2, 1, 3]]), dst.device, num_programs=num_programs
    )
    assert same_bytes(memory, expected)


@in_the_kernel
@pytest.mark.parametrize("shape", [(4, 0), (4, 0, 3), (4, 3, 0)])
def test_blocks_without_bytes(device, shape):
    empty = torch.empty(shape, device=device)
    launch_runs([(empty, empty.clone())], np.array([[0, 1, 2]]), empty.device)
    launch_ids([(empty, empty.clone())], None, None, 4, empty.device)
    launch_runs([(torch.ones(2, 2, device=device), torch.ones(2, 2, device=device))], as_rows([]), empty.device)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20))
@settings(deadline=None)
def test_chunks_are_the_runs_in_pieces_of_their_mean_length(lengths):
    """At most 2 chunks a run, and at most 3 places a block, whatever the lengths."""
    starts = np.cumsum(lengths) - lengths
    runs = np.stack([starts[::-1] + 1000, starts, np.array(lengths)], axis=1)
    chunks, chunk_blocks = _copy_kernel._cut(runs)
    assert expanded(chunks) == expanded(runs)
    assert chunk_blocks == -(-sum(lengths) // len(lengths))
    assert chunks[:, 2].min() >= 1
    assert chunks[:, 2].max() <= chunk_blocks
    assert len(chunks) <= 2 * len(runs)
    assert len(chunks) * chunk_blocks < 3 * sum(lengths) or sum(lengths) < 2 * len(lengths)

"""Memory that a copy reads and writes: refused exactly where a byte is both, and fine where tensors only lie close."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import copy_blocks, gather_blocks, scatter_blocks
from tests.kernels.backends import on_every_backend
from tests.kernels.drawn_runs import disjoint_runs

NUM_BLOCKS = 8
# name |-> (source, destination) in memory of 8 blocks of 2 halves of 3 elements
VIEWS = {
    "one pool": lambda pool: (pool, pool),
    "its rest to it": lambda pool: (pool[2:], pool),
    "it to its rest": lambda pool: (pool, pool[3:]),
    "even to odd": lambda pool: (pool[::2], pool[1::2]),
    "even to even": lambda pool: (pool[::2], pool[2::2]),
    "halves": lambda pool: (pool[:, 0], pool[:, 1]),
    "one half": lambda pool: (pool[:, 1], pool[1:, 1]),
    "layers": lambda pool: (pool.unbind(1), pool[1:].unbind(1)),
    "layers swapped": lambda pool: (pool.unbind(1), pool.unbind(1)[::-1]),
    "apart": lambda pool: (pool[:3], pool[5:]),
}


def block_major():
    return torch.arange(NUM_BLOCKS * 6).view(NUM_BLOCKS, 2, 3)


def layer_major():
    return torch.arange(NUM_BLOCKS * 6).view(2, NUM_BLOCKS, 3).transpose(0, 1)


def length(blocks):
    return len(blocks[0] if isinstance(blocks, tuple) else blocks)


def elements(blocks, ids):
    """The numbers, each of them in one place, in these blocks."""
    tensors = blocks if isinstance(blocks, tuple) else (blocks,)
    return {number for tensor in tensors for number in tensor[ids].flatten().tolist()}


def copied(src, dst, *what):
    """Whether the copy was made, rather than refused."""
    try:
        copy_blocks(src, dst, *what)
    except ValueError as error:
        assert "share memory" in str(error)
        return False
    return True


@pytest.mark.parametrize("make", [block_major, layer_major])
@pytest.mark.parametrize("name", VIEWS)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_refused_exactly_where_a_byte_is_read_and_written(name, make, data):
    pool = make()
    src, dst = VIEWS[name](pool)
    runs = data.draw(disjoint_runs(length(src), length(dst)))
    src_ids = [s + i for s, _, n in runs.tolist() for i in range(n)]
    dst_ids = [d + i for _, d, n in runs.tolist() for i in range(n)]
    fine = not elements(src, src_ids) & elements(dst, dst_ids)
    expected = make()
    if fine:
        expected_src, expected_dst = VIEWS[name](expected)
        pairs = (
            zip(expected_src, expected_dst, strict=True) if isinstance(src, tuple) else [(expected_src, expected_dst)]
        )
        for one, other in pairs:
            other[dst_ids] = one[src_ids].clone()
    assert copied(src, dst, runs) == fine
    assert torch.equal(pool, expected)
    fresh = make()
    src, dst = VIEWS[name](fresh)
    assert copied(src, dst, np.array(src_ids, dtype=np.int64), np.array(dst_ids, dtype=np.int64)) == fine
    assert torch.equal(fresh, expected)


MEMORY = torch.zeros(40)


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        (MEMORY[:32].view(4, 8), MEMORY[4:36].view(4, 8)),  # half a block further
        (MEMORY[:32].view(8, 4), MEMORY[:32].view(4, 8)[:, 4:]),  # other block strides
        (MEMORY[:1].expand(4, 8), MEMORY[:32].view(4, 8)),  # one block again and again
        (MEMORY.unfold(0, 8, 4), MEMORY.unfold(0, 8, 4)),  # blocks that share memory among themselves
        (MEMORY[:32].view(4, 8)[:, :5], MEMORY[:32].view(4, 8)[:, 3:]),  # halves that share their middle
        (MEMORY[:32].view(4, 8)[:, :4], MEMORY[6:38].view(4, 8)[:, :4]),  # a half that begins the next block
    ],
)
def test_other_overlaps(src, dst):
    message = "src and dst share memory, but not block by block; clone one of them"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        copy_blocks(src, dst, np.array([0]), np.array([3]))


def test_other_names():
    pool = block_major()
    for call, names in (
        (lambda: gather_blocks(pool, np.array([5, 6, 1]), out=pool[:4]), ("src", "out")),
        (lambda: scatter_blocks(pool[:3], pool, np.array([6, 1, 7])), ("blocks", "dst")),
    ):
        message = f"{names[0]} and {names[1]} share memory: no block may be both read and written, "
        message += f"got block 1 of {names[0]}, block 1 of {names[1]}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
    assert torch.equal(pool, block_major())


@on_every_backend
def test_keys_to_values_of_one_pool(device):
    pool = block_major().to(device)
    copy_blocks(pool[:, 0], pool[:, 1], np.arange(NUM_BLOCKS), np.arange(NUM_BLOCKS)[::-1].copy())
    keys = block_major()[:, 0]
    assert torch.equal(pool.cpu(), torch.stack([keys, keys.flip(0)], dim=1))

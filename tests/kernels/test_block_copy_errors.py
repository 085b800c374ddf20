"""What the block copies refuse: the whole message, and that nothing was written."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from fastswitch.kernels import copy_blocks, gather_blocks, scatter_blocks

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
            "block_ids must be ids [n] or runs [n, 3], got shape (1, 1)",
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
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[1, 2, 1]]), np.array([1])),
            ValueError,
            "src_ids must be one-dimensional, got shape (1, 3)",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([1, 2])),
            ValueError,
            "without dst_ids, src_ids must be runs [n, 3], got shape (2,)",
        ),
        (
            lambda: copy_blocks(POOL, POOL, np.array([1, 2]), np.array([2, 3])),
            ValueError,
            "src and dst share memory: no block may be both read and written, got block 2 of src, block 2 of dst",
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
        (
            lambda: scatter_blocks((POOL,), POOL, np.array([0])),
            TypeError,
            "blocks must be a tensor, got tuple",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), torch.zeros(1, 3, dtype=torch.int64, device="meta")),
            TypeError,
            "runs must be on the host, where they are cut, got meta; use ids on a device",
        ),
        (lambda: gather_blocks(POOL, np.zeros((1, 3))), TypeError, "runs must be integers, got float64"),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, 0, 1], [1, 1, 0]])),
            ValueError,
            "runs must have at least 1 block, got 0 at run 1",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, 0, -1]])),
            ValueError,
            "runs must have at least 1 block, got -1 at run 0",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, 0, 1], [3, 1, 2]])),
            IndexError,
            "runs in src must lie in [0, 4), got [3, 5) at run 1",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, -1, 2]])),
            IndexError,
            "runs in dst must lie in [0, 4), got [-1, 1) at run 0",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, 2**63 - 1, 2]])),
            IndexError,
            f"runs in dst must lie in [0, 4), got [{2**63 - 1}, {2**63 + 1}) at run 0",
        ),
        (
            lambda: scatter_blocks(POOL[:2], POOL.clone(), np.array([[1, 0, 2]])),
            IndexError,
            "runs in blocks must lie in [0, 2), got [1, 3) at run 0",
        ),
        (
            lambda: gather_blocks(POOL, np.array([[0, 1, 2]])),
            IndexError,
            "runs in the result must lie in [0, 2), got [1, 3) at run 0",
        ),
        (
            lambda: copy_blocks(POOL, POOL.clone(), np.array([[0, 2, 2], [0, 0, 1], [1, 3, 1]])),
            ValueError,
            "runs must not repeat a destination, got block 3 in runs 0 and 2",
        ),
        (lambda: gather_blocks(POOL, np.array([0]), out=[POOL]), TypeError, "out must be a tensor, got list"),
        (
            lambda: gather_blocks(POOL, np.array([0, 1, 0]), out=torch.zeros(2, 2, 3)),
            ValueError,
            "out must hold 3 blocks, got 2",
        ),
        (
            lambda: gather_blocks(POOL, np.array([0]), out=torch.zeros(2, 3, 2)),
            ValueError,
            "src and out must have one block shape, got (2, 3) and (3, 2)",
        ),
        (
            lambda: gather_blocks(POOL, np.array([0]), out=torch.zeros(2, 2, 3).half()),
            TypeError,
            "src and out must have one dtype, got torch.float32 and torch.float16",
        ),
        (
            lambda: gather_blocks(POOL, np.array([0]), out=torch.zeros(2, 2, 3, device="meta")),
            ValueError,
            "src and out must be on one device, got cpu and meta",
        ),
    ],
)
def test_bad_input(call, error, message):
    before = POOL.clone()
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()
    assert torch.equal(POOL, before)

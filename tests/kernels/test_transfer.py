"""Transfers against a copy of one element after the other, their counts, and that nothing else is written."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import TRANSFERS, TransferCount, per_block, per_run
from tests.kernels.backends import DTYPES, gpu, random_bytes, same_bytes

on_every_link = pytest.mark.parametrize(
    ("src_device", "dst_device"),
    [
        ("cpu", "cpu"),
        *(pytest.param(*link, marks=gpu) for link in [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")]),
    ],
)
every_transfer = pytest.mark.parametrize("name", sorted(TRANSFERS))


def make_planes(num_planes, num_blocks, plane_numel, dtype, device, *, seed):
    planes = [random_bytes((num_blocks, plane_numel), dtype, seed=seed + i) for i in range(num_planes)]
    if torch.cuda.is_available():
        planes = [plane.pin_memory() for plane in planes]
    return tuple(plane.to(device) for plane in planes)


@st.composite
def disjoint_runs(draw, num_blocks=12):
    """Runs whose destinations are disjoint, in any order."""
    runs, start = [], 0
    while start < num_blocks:
        length = draw(st.integers(1, num_blocks - start))
        if draw(st.booleans()):
            runs.append((draw(st.integers(0, num_blocks - length)), start, length))
        start += length
    return np.array(draw(st.permutations(runs)), dtype=np.int64).reshape(-1, 3)


@every_transfer
@on_every_link
@given(
    runs=disjoint_runs(),
    dtype=st.sampled_from(DTYPES),
    num_planes=st.integers(1, 3),
    plane_numel=st.sampled_from([1, 3, 8]),
)
@settings(deadline=None)
def test_moves_the_runs_and_nothing_else(name, src_device, dst_device, runs, dtype, num_planes, plane_numel):
    src = make_planes(num_planes, 12, plane_numel, dtype, src_device, seed=1)
    dst = make_planes(num_planes, 12, plane_numel, dtype, dst_device, seed=9)
    expected = [plane.cpu().clone() for plane in dst]
    for src_start, dst_start, num_blocks in runs.tolist():
        for i in range(num_blocks):
            for plane, src_plane in zip(expected, src, strict=True):
                plane[dst_start + i] = src_plane[src_start + i].cpu()
    count = TRANSFERS[name](src, dst, runs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    assert all(same_bytes(plane.cpu(), wanted) for plane, wanted in zip(dst, expected, strict=True))
    calls = num_planes * int(runs[:, 2].sum() if name == "per_block" else len(runs))
    num_bytes = num_planes * int(runs[:, 2].sum()) * plane_numel * dtype.itemsize
    assert count == TransferCount(num_bytes=num_bytes, copies=calls, calls=calls)


def test_counts():
    planes = tuple(torch.zeros(10, 4) for _ in range(6))
    runs = np.array([[0, 5, 3], [7, 0, 2]])
    assert per_block(planes, tuple(map(torch.clone, planes)), runs) == TransferCount(num_bytes=480, copies=30, calls=30)
    assert per_run(planes, tuple(map(torch.clone, planes)), runs) == TransferCount(num_bytes=480, copies=12, calls=12)


PLANE = torch.zeros(4, 8)


@every_transfer
@pytest.mark.parametrize(
    ("src", "dst", "runs", "error", "message"),
    [
        ((PLANE,), (PLANE, PLANE), [[0, 0, 1]], ValueError, "src and dst must have as many planes, got 1 and 2"),
        (
            (PLANE,),
            (PLANE[:, :4],),
            [[0, 0, 1]],
            ValueError,
            "plane 0 must be [num_blocks, plane_numel] with one plane_numel, got [4, 8] and [4, 4]",
        ),
        (
            (PLANE, PLANE),
            (PLANE, PLANE.half()),
            [[0, 0, 1]],
            TypeError,
            "plane 1 must have one dtype on both sides, got torch.float32 and torch.float16",
        ),
        (
            (PLANE.t().contiguous().t(),),
            (PLANE,),
            [[0, 0, 1]],
            ValueError,
            "plane 0 must be contiguous, got strides (1, 4) and (8, 1)",
        ),
        ((PLANE,), (PLANE,), [[0, 0]], ValueError, "runs must have shape [n, 3], got [1, 2]"),
        ((PLANE,), (PLANE,), [[0.0, 0.0, 1.0]], TypeError, "runs must be integers, got float64"),
        ((PLANE,), (PLANE,), [[0, 0, 0]], ValueError, "runs must have at least 1 block, got 0"),
        ((PLANE,), (PLANE,), [[0, 0, 1], [3, 0, 2]], IndexError, "src runs must lie in [0, 4), got [3, 5) at run 1"),
        ((PLANE,), (PLANE,), [[0, -1, 2]], IndexError, "dst runs must lie in [0, 4), got [-1, 1) at run 0"),
    ],
)
def test_bad_input(name, src, dst, runs, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        TRANSFERS[name](src, dst, np.array(runs))

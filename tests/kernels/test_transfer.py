"""Transfers against a copy of one element after the other, their counts, and that nothing else is written."""

from __future__ import annotations

import dataclasses
import importlib
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastswitch.kernels import TRANSFERS, TRANSPOSING, TransferCount, copy_blocks, why_not
from fastswitch.kernels._memcpy import slice_copies
from fastswitch.kernels._planes import check_transfer, split_runs
from fastswitch.kernels._runs import expand_runs
from fastswitch.memory.pool import KVPool
from tests.kernels.backends import DTYPES, gpu, random_bytes, same_bytes

staging = importlib.import_module("fastswitch.kernels.staged")  # the package's own `staged` is the function

on_every_link = pytest.mark.parametrize(
    ("src_device", "dst_device"),
    [
        ("cpu", "cpu"),
        *(pytest.param(*link, marks=gpu) for link in [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")]),
    ],
)
every_transfer = pytest.mark.parametrize("name", TRANSFERS)
same_order_only = pytest.mark.parametrize("name", [name for name in TRANSFERS if name not in TRANSPOSING])


def make_planes(num_planes, num_blocks, plane_numel, dtype, device, *, seed):
    planes = [random_bytes((num_blocks, plane_numel), dtype, seed=seed + i) for i in range(num_planes)]
    if torch.cuda.is_available():
        planes = [plane.pin_memory() for plane in planes]
    return tuple(plane.to(device) for plane in planes)


def in_one_memory(planes):
    """The same planes, one behind the other, as a pool has them."""
    return torch.stack(planes).unbind(0)


def as_one_plane(planes):
    """A block-major pool of the same blocks."""
    return (torch.stack(planes, dim=1).flatten(1),)


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


def transfer(name, src, dst, runs):
    """On a stream of its own where there are streams, and waited for."""
    if not torch.cuda.is_available():
        return TRANSFERS[name](src, dst, runs)
    if (reason := why_not(name, "cuda")) is not None:
        pytest.skip(reason)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        count = TRANSFERS[name](src, dst, runs)
    torch.cuda.synchronize()
    return count


def moved(src, dst, runs):
    """What the destination holds afterwards, block after block."""
    expected = [plane.cpu().clone() for plane in dst]
    for src_start, dst_start, num_blocks in runs.tolist():
        for i in range(num_blocks):
            for plane, src_plane in zip(expected, src, strict=True):
                plane[dst_start + i] = src_plane[src_start + i].cpu()
    return expected


def all_same(planes, expected):
    return all(same_bytes(plane.cpu(), wanted) for plane, wanted in zip(planes, expected, strict=True))


@pytest.fixture(params=[staging.STAGE_BYTES, 48])
def stage_bytes(request, monkeypatch):
    """Room for everything at once, or for a few blocks at a time."""
    monkeypatch.setattr(staging, "STAGE_BYTES", request.param)


SMALL = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@every_transfer
@on_every_link
@given(
    runs=disjoint_runs(),
    dtype=st.sampled_from(DTYPES),
    num_planes=st.integers(1, 3),
    plane_numel=st.sampled_from([1, 3, 8]),
    stacked=st.booleans(),
)
@SMALL
def test_moves_the_runs_and_nothing_else(
    name, src_device, dst_device, runs, dtype, num_planes, plane_numel, stacked, stage_bytes
):
    src = make_planes(num_planes, 12, plane_numel, dtype, src_device, seed=1)
    dst = make_planes(num_planes, 12, plane_numel, dtype, dst_device, seed=9)
    if stacked and not torch.cuda.is_available():
        src, dst = in_one_memory(src), in_one_memory(dst)
    expected = moved(src, dst, runs)
    count = transfer(name, src, dst, runs)
    assert all_same(dst, expected)
    assert count.num_bytes == num_planes * int(runs[:, 2].sum()) * plane_numel * dtype.itemsize


@pytest.mark.parametrize("name", TRANSPOSING)
@pytest.mark.parametrize("from_one_plane", [True, False])
@on_every_link
@given(
    runs=disjoint_runs(),
    dtype=st.sampled_from(DTYPES),
    num_planes=st.integers(2, 4),
    plane_numel=st.sampled_from([1, 3, 8]),
)
@SMALL
def test_moves_between_orders(
    name, from_one_plane, src_device, dst_device, runs, dtype, num_planes, plane_numel, stage_bytes
):
    src = make_planes(num_planes, 12, plane_numel, dtype, "cpu", seed=1)
    dst = make_planes(num_planes, 12, plane_numel, dtype, "cpu", seed=9)
    expected = moved(src, dst, runs)
    if from_one_plane:
        src = as_one_plane(src)
    else:
        dst, expected = as_one_plane(dst), as_one_plane(expected)
    src = tuple(plane.pin_memory() if torch.cuda.is_available() else plane for plane in src)
    dst = tuple(plane.pin_memory() if torch.cuda.is_available() else plane for plane in dst)
    src, dst = (tuple(plane.to(device) for plane in side) for side, device in ((src, src_device), (dst, dst_device)))
    transfer(name, src, dst, runs)
    assert all_same(dst, expected)


@every_transfer
def test_moves_between_a_foreign_engines_layers_and_a_pool(name):
    """Layers as vLLM has them, each a tensor of its own, against our pools in both orders where the way transposes."""
    layers = [torch.randn(2, 12, 4, 2, 8) for _ in range(3)]
    wrapped = KVPool.wrap(layers)
    for order in ("layer_major", "block_major") if name in TRANSPOSING else ("layer_major",):
        ours = KVPool(dataclasses.replace(wrapped.layout, order=order), 20)
        ours.fill(range(20), 0.0)
        TRANSFERS[name](wrapped.planes, ours.planes, np.array([[0, 5, 3], [7, 0, 2]]))
        for layer, tensor in enumerate(layers):
            assert torch.equal(ours.k(layer)[[5, 6, 7, 0, 1]], tensor[0][[0, 1, 2, 7, 8]])
            assert torch.equal(ours.v(layer)[[5, 6, 7, 0, 1]], tensor[1][[0, 1, 2, 7, 8]])
        kept = [tensor.clone() for tensor in layers]
        for tensor in layers:
            tensor.zero_()
        TRANSFERS[name](ours.planes, wrapped.planes, np.array([[5, 0, 3], [0, 7, 2]]))
        for tensor, before in zip(layers, kept, strict=True):
            assert torch.equal(tensor[:, [0, 1, 2, 7, 8]], before[:, [0, 1, 2, 7, 8]])
            assert not tensor[:, [3, 4, 5, 6, 9, 10, 11]].any()
            tensor.copy_(before)


@same_order_only
def test_the_others_refuse_pools_of_different_order(name):
    message = "src and dst must have as many planes, got 1 and 2: use staged or zero_copy"
    with pytest.raises(ValueError, match=f"^{message}$"):
        TRANSFERS[name]((torch.zeros(4, 8),), (torch.zeros(4, 4), torch.zeros(4, 4)), np.array([[0, 0, 1]]))


RUNS = np.array([[0, 5, 3], [7, 0, 2]])


@pytest.mark.parametrize(
    ("name", "copies", "calls"), [("per_block", 30, 30), ("per_run", 12, 12), ("batched", 12, 1), ("zero_copy", 1, 1)]
)
def test_counts(name, copies, calls):
    planes = tuple(torch.zeros(6, 10, 4))
    count = TRANSFERS[name](planes, tuple(torch.ones(6, 10, 4)), RUNS)
    assert count == TransferCount(num_bytes=480, copies=copies, calls=calls)
    assert TRANSFERS[name](planes, planes, np.empty((0, 3), np.int64)) == TransferCount(0, 0, 0)


def test_a_batch_of_planes_in_memories_of_their_own_is_a_call_each():
    src, dst = ([torch.full((10, 4), float(i)) for i in range(6)] for _ in range(2))
    del src[2:4], dst[3:5]  # no longer equally far apart
    count = TRANSFERS["batched"](tuple(src), tuple(dst), RUNS)
    assert (count.copies, count.calls in (1, 4)) == (8, True)  # the allocator may have placed them evenly all the same


@pytest.mark.parametrize(
    ("most_blocks", "memcpys", "launches"),
    [
        (8, 1, 1),  # blocks 2 to 6 of the host are one range, whatever their order
        (5, 1, 1),
        (3, 2, 2),
        (1, 5, 5),
    ],
)
def test_staged_copies_what_is_contiguous_on_the_host_at_once(monkeypatch, most_blocks, memcpys, launches):
    num_planes, block_bytes = 3, 3 * 4 * 4
    monkeypatch.setattr(staging, "STAGE_BYTES", most_blocks * block_bytes + block_bytes - 1)
    src, dst = tuple(torch.randn(num_planes, 10, 4)), tuple(torch.zeros(num_planes, 10, 4))
    scattered = np.array([[9, 4, 1], [0, 2, 2], [5, 5, 2]])
    count = TRANSFERS["staged"](src, dst, scattered)
    assert (count.copies, count.calls) == (num_planes * memcpys, num_planes * memcpys + launches)
    assert all_same(dst, moved(src, tuple(torch.zeros(num_planes, 10, 4)), scattered))


@pytest.mark.parametrize(("host_order", "memcpys"), [("block_major", 1), ("layer_major", 3)])
def test_between_orders_staged_copies_the_planes_of_the_host(monkeypatch, host_order, memcpys):
    """Plain copies, which know no strides: what crosses is contiguous on both sides."""
    listed = []

    def plain(pairs, runs):
        assert all(tensor.is_contiguous() for pair in pairs for tensor in pair)
        listed.append(runs.tolist())
        slice_copies(pairs, runs)

    monkeypatch.setattr(staging, "slice_copies", plain)
    layers, zeros = tuple(torch.randn(3, 10, 4)), tuple(torch.zeros(3, 10, 4))
    expected = moved(layers, zeros, RUNS)
    if host_order == "block_major":
        src, dst, expected = layers, as_one_plane(zeros), as_one_plane(expected)
    else:
        src, dst = as_one_plane(layers), zeros
    count = TRANSFERS["staged"](src, dst, RUNS)
    assert all_same(dst, expected)
    assert listed == [[[0, 0, 2], [2, 5, 3]]]
    assert (count.copies, count.calls) == (2 * memcpys, 2 * memcpys + 1)


@pytest.mark.parametrize("leaves_host", [True, False])
@given(runs=disjoint_runs().filter(len), from_one_plane=st.booleans(), to_one_plane=st.booleans())
@SMALL
def test_the_pieces_of_either_direction_move_the_runs(leaves_host, runs, from_one_plane, to_one_plane, stage_bytes):
    """As on a device, where the host's side is plain copies and the other a kernel."""
    src = make_planes(3, 12, 4, torch.float32, "cpu", seed=1)
    dst = make_planes(3, 12, 4, torch.float32, "cpu", seed=9)
    expected = moved(src, dst, runs)
    src = as_one_plane(src) if from_one_plane else src
    dst, expected = (as_one_plane(planes) if to_one_plane else planes for planes in (dst, expected))
    pieces = list(staging._cut(check_transfer(src, dst, runs, transposes=True), runs, None, leaves_host=leaves_host))
    (buffer,) = staging._buffers(src if leaves_host else dst, pieces, None)
    stage = staging._Stage.through(src, dst, buffer)
    for piece in pieces:
        if leaves_host:
            slice_copies(stage.into, piece.host)
            copy_blocks(*(tuple(side) for side in zip(*stage.out_of, strict=True)), piece.device)
        else:
            copy_blocks(*(tuple(side) for side in zip(*stage.into, strict=True)), piece.device)
            slice_copies(stage.out_of, piece.host)
    assert all_same(dst, expected)


@given(runs=disjoint_runs(30), most_blocks=st.integers(1, 9))
def test_split_runs_keeps_the_pairs_and_crosses_no_multiple(runs, most_blocks):
    cut = split_runs(runs, most_blocks)
    assert [ids.tolist() for ids in expand_runs(cut)] == [ids.tolist() for ids in expand_runs(runs)]
    before = np.cumsum(cut[:, 2]) - cut[:, 2]
    assert (before // most_blocks == (before + cut[:, 2] - 1) // most_blocks).all()


def test_a_way_says_why_it_cannot_be_taken():
    assert all(why_not(name, "cpu") is None for name in TRANSFERS)
    with pytest.raises(ValueError, match=r"^unknown transfer 'magic': known are per_block, per_run, batched,"):
        why_not("magic", "cpu")
    if not torch.cuda.is_available():
        assert why_not("batched", "cuda").startswith("batched needs ")
        assert why_not("staged", "cuda") is None


PLANE = torch.zeros(4, 8)


@every_transfer
@pytest.mark.parametrize(
    ("src", "dst", "runs", "error", "message"),
    [
        (
            (PLANE, PLANE),
            (PLANE, PLANE, PLANE),
            [[0, 0, 1]],
            ValueError,
            "src and dst must have as many planes, got 2 and 3: give both one order",
        ),
        ((PLANE[0],), (PLANE,), [[0, 0, 1]], ValueError, "src plane 0 must be [num_blocks, plane_numel], got [8]"),
        (
            (PLANE,),
            (PLANE[:, :4].contiguous(),),
            [[0, 0, 1]],
            ValueError,
            "plane 0 must have blocks of one size on both sides, got 8 and 4 elements",
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
            "src plane 0 must be contiguous, got strides (1, 4)",
        ),
        ((PLANE,), (PLANE,), [[0, 0]], ValueError, "runs must have shape [n, 3], got shape (1, 2)"),
        ((PLANE,), (PLANE,), [[0.0, 0.0, 1.0]], TypeError, "runs must be integers, got float64"),
        ((PLANE,), (PLANE,), [[0, 0, 0]], ValueError, "runs must have at least 1 block, got 0 at run 0"),
        ((PLANE,), (PLANE,), [[0, 0, 1], [3, 0, 2]], IndexError, "runs in src must lie in [0, 4), got [3, 5) at run 1"),
        (
            (PLANE,),
            (PLANE,),
            [[0, 1, 2], [0, 2, 1]],
            ValueError,
            "runs must not repeat a destination, got block 2 in runs 0 and 1",
        ),
        ((PLANE,), (PLANE,), [[0, -1, 2]], IndexError, "runs in dst must lie in [0, 4), got [-1, 1) at run 0"),
    ],
)
def test_bad_input(name, src, dst, runs, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        TRANSFERS[name](src, dst, np.array(runs))

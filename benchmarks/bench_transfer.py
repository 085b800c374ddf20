"""The ways bytes cross between the tiers: five ways, two directions, both layouts, scattered and in runs.

Run: ``pytest benchmarks/bench_transfer.py``. A *case* is a request to be swapped: so many blocks of so many bytes, of
whole blocks (block-major) or of 64 planes (layer-major), scattered on both sides or on the device alone. On CUDA the
host is pinned and the link real; on a CPU both sides are one memory, and the cases are such that coalescing shows.
The ceiling is ``bench_stream.py``'s link: one large memcpy. ``tensor_copy`` is a loop of ``Tensor.copy_`` over the
blocks, as an engine written in Python does it; our ``per_block`` costs less a call. ``chosen`` in extra_info is what
`choose_transfer` says.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from measuring import DEVICE, MINIATURE, link_speed, measure, transfer_seconds

from fastswitch.kernels import DIRECTIONS, TRANSFERS, TransferCount, choose_transfer, transfer_costs, why_not
from fastswitch.kernels._runs import expand_runs

KIB, MIB = 1 << 10, 1 << 20


class Case(NamedTuple):
    """A request to swap."""

    name: str
    num_planes: int  # 1: block-major
    plane_bytes: int  # of a block
    num_blocks: int
    run_blocks: int  # blocks in a run
    scattered: str  # "both" sides, or the "device" alone, and the host is one range

    @property
    def num_bytes(self):
        return self.num_planes * self.plane_bytes * self.num_blocks


# Llama-3-8B, bf16, 16 tokens a block: 2 MiB in 64 planes of 32 KiB; at tensor parallel 4, planes of 8 KiB.
GPU_CASES = [
    Case("layer_major 32KiB", 64, 32 * KIB, 128, 1, "both"),
    Case("block_major 2MiB", 1, 2 * MIB, 128, 1, "both"),
    Case("layer_major 32KiB, host in one range", 64, 32 * KIB, 128, 1, "device"),
    Case("block_major 2MiB, host in one range", 1, 2 * MIB, 128, 1, "device"),
    Case("layer_major 8KiB", 64, 8 * KIB, 128, 1, "both"),
    Case("block_major 64KiB", 1, 64 * KIB, 2048, 1, "both"),
]
# 128 MiB each: more than any cache.
CPU_CASES = [
    Case("layer_major 8KiB", 16, 8 * KIB, 1024, 1, "both"),
    Case("layer_major 8KiB, runs of 16", 16, 8 * KIB, 1024, 16, "both"),
    Case("block_major 256KiB", 1, 256 * KIB, 512, 1, "both"),
    Case("block_major 256KiB, runs of 8", 1, 256 * KIB, 512, 8, "both"),
]
CASES = GPU_CASES if DEVICE == "cuda" else CPU_CASES
if MINIATURE:
    CASES = [case._replace(num_blocks=2 * case.run_blocks) for case in CASES]
SPREAD = 2  # a pool has so many times the request's blocks


@functools.lru_cache(maxsize=1)
def make_pools(case):
    """Memory of both sides, ``[num_planes, num_blocks, plane_bytes]``; drawing it takes longer than copying it."""
    shape = (case.num_planes, SPREAD * case.num_blocks, case.plane_bytes)
    device = torch.randint(0, 255, shape, dtype=torch.uint8, device=DEVICE)
    host = torch.empty(shape, dtype=torch.uint8, pin_memory=DEVICE == "cuda").copy_(device)
    return device, host


def make_sides(case, direction):
    """Planes of the source, random where the runs are, and of the destination, all zero; and the runs between them."""
    device, host = make_pools(case)
    (host if direction == "device_to_host" else device).zero_()
    device, host = device.unbind(0), host.unbind(0)
    rng = np.random.default_rng(0)
    places = np.arange(case.num_blocks // case.run_blocks)
    on_device = rng.permutation(places) * SPREAD * case.run_blocks
    on_host = (
        rng.permutation(places) * SPREAD * case.run_blocks if case.scattered == "both" else places * case.run_blocks
    )
    lengths = np.full(len(places), case.run_blocks)
    if direction == "device_to_host":
        return device, host, np.stack([on_device, on_host, lengths], axis=1)
    return host, device, np.stack([on_host, on_device, lengths], axis=1)


def tensor_copy(src, dst, runs):
    """Block by block and plane by plane, by torch."""
    src_ids, dst_ids = expand_runs(runs)
    ids = list(zip(src_ids.tolist(), dst_ids.tolist(), strict=True))
    for src_plane, dst_plane in zip(src, dst, strict=True):
        for src_id, dst_id in ids:
            dst_plane[dst_id].copy_(src_plane[src_id], non_blocking=True)
    copies = len(ids) * len(src)
    return TransferCount(copies * src[0][:1].nbytes, copies, copies)


# On a GPU `per_block` takes its place: there is room for no more points.
WAYS = dict(TRANSFERS) if DEVICE == "cuda" else {**TRANSFERS, "tensor_copy": tensor_copy}


def check(way, src, dst, runs, stream):
    """Move once, and compare every block that should have moved."""
    if stream is None:
        count = WAYS[way](src, dst, runs)
    else:
        with torch.cuda.stream(stream):
            count = WAYS[way](src, dst, runs)
        torch.cuda.synchronize()
    for src_start, dst_start, length in runs.tolist():
        for plane in range(0, len(src), 7):
            moved = dst[plane][dst_start : dst_start + length].cpu()
            assert torch.equal(moved, src[plane][src_start : src_start + length].cpu())
            assert moved.any()
    return count


def chosen_way(case, direction):
    num_runs = case.num_planes * case.num_blocks // case.run_blocks
    host_runs = num_runs if case.scattered == "both" else case.num_planes
    return choose_transfer(
        direction, num_runs, case.num_bytes / num_runs, num_host_runs=host_runs, costs=transfer_costs(DEVICE)
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("direction", DIRECTIONS if DEVICE == "cuda" else DIRECTIONS[:1])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transfer(benchmark, case, direction, way):
    if way in TRANSFERS and (reason := why_not(way, DEVICE)) is not None:
        pytest.skip(reason)
    src, dst, runs = make_sides(case, direction)
    stream = torch.cuda.Stream() if DEVICE == "cuda" else None
    count = check(way, src, dst, runs, stream)
    facts = {
        "case": case.name,
        "direction": direction,
        "way": way,
        "chosen": chosen_way(case, direction),
        "dtype": "uint8",
        "shape": [case.num_planes, case.num_blocks, case.plane_bytes],
        "copies": count.copies,
        "calls": count.calls,
    }
    measure(
        benchmark,
        lambda: WAYS[way](src, dst, runs),
        group=f"{case.name} {direction}",
        num_bytes=case.num_bytes,
        stream=stream,
        timed=transfer_seconds,
        ceiling=functools.partial(link_speed, direction),
        **facts,
    )

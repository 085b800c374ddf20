"""A job's copies end where a piece of the host's page-locked memory does, in either direction."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch

from fastswitch.engine import EmulatedLink, InlineSwaps
from fastswitch.kernels import per_run
from fastswitch.memory import KVLayout, SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool
from tests.engine.doubles import FakeClock
from tests.memory.registrars import RecordingRegistrar

BLOCK_BYTES = mmap.PAGESIZE // 2
NUM_BLOCKS = 12


def make_pools(order):
    """A device pool, and a host pool whose pieces are of 4 blocks."""
    num_planes = 1 if order == "block_major" else 4
    layout = KVLayout(2, 1, num_planes * BLOCK_BYTES // 4 // 4, 1, "float32", order)
    assert layout.piece_bytes == BLOCK_BYTES
    host_pool = KVPool.pinned_by(RecordingRegistrar(), layout, NUM_BLOCKS, max_piece_bytes=2 * mmap.PAGESIZE)
    assert host_pool.blocks_per_piece == 4
    return KVPool(layout, NUM_BLOCKS), host_pool


def make_job(direction, run):
    return SwapJob(0, 0, direction, (SegmentRange(0, 0, 1),), np.array([run], np.int64))


@pytest.mark.parametrize("order", ["block_major", "layer_major"])
@pytest.mark.parametrize(
    ("direction", "cut"),
    [
        # [2, 9) of the device against [3, 10) of the host: the host's blocks 4 and 8 begin a piece
        (SwapDirection.SWAP_OUT, [[2, 3, 1], [3, 4, 4], [7, 8, 2]]),
        (SwapDirection.SWAP_IN, [[3, 2, 1], [4, 3, 4], [8, 7, 2]]),
    ],
)
def test_runs_are_cut_at_the_pieces_of_the_host(order, direction, cut):
    pools = make_pools(order)
    for pool, value in zip(pools, (1.0, 2.0), strict=True):
        pool.fill(range(NUM_BLOCKS), value)
    run = [2, 3, 7] if direction is SwapDirection.SWAP_OUT else [3, 2, 7]
    given = []

    def recording(src_planes, dst_planes, runs):
        given.append(runs.tolist())
        return per_run(src_planes, dst_planes, runs)

    report = InlineSwaps(*pools, transfer=recording).submit(make_job(direction, run)).result()
    assert given == [cut]
    assert report.copies == report.calls == 3 * len(pools[0].planes)
    source, destination = pools if direction is SwapDirection.SWAP_OUT else pools[::-1]
    assert torch.equal(destination.blocks[run[1] : run[1] + 7], source.blocks[run[0] : run[0] + 7])
    assert not torch.equal(destination.blocks[run[1] - 1], source.blocks[run[0] - 1])


def test_an_emulated_link_charges_for_the_copies_that_are_made():
    clock = FakeClock()
    swaps = InlineSwaps(*make_pools("block_major"), link=EmulatedLink(call_us=1e6, gbps=1.0), clock=clock)
    swaps.submit(make_job(SwapDirection.SWAP_OUT, [2, 3, 7]))
    assert clock.now() == 3.0

"""Jobs over small pools, and a transfer whose copies stand still for as long as a test likes."""

from __future__ import annotations

import threading

import numpy as np

from fastswitch.kernels import per_run
from fastswitch.memory import KVLayout, SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN
LAYOUT = KVLayout(num_layers=2, num_kv_heads=1, head_dim=2, block_size=2, dtype="float64")
PATIENCE_S = 60.0  # for what happens at once unless it never does


def make_job(job_id, direction, runs=((0, 0, 1),), after=()):
    return SwapJob(job_id, 0, direction, (SegmentRange(0, 0, 2),), np.array(runs, np.int64), after)


def make_pools(num_blocks=4):
    pools = KVPool(LAYOUT, num_blocks), KVPool(LAYOUT, num_blocks)
    for value, pool in zip((1.0, 2.0), pools, strict=True):
        pool.fill(range(num_blocks), value)
    return pools


class Gated:
    """A transfer whose copies stand still while a gate is closed, and that notes what it did and where."""

    def __init__(self):
        self.gates = {}  # first source block |-> gate
        self.started = {}  # likewise |-> set when the copy has begun
        self.threads = []
        self.served = []
        self.errors = {}  # likewise |-> what it raises

    def hold(self, block):
        self.gates[block], self.started[block] = threading.Event(), threading.Event()

    def __call__(self, src_planes, dst_planes, runs):
        block = int(runs[0, 0])
        self.threads.append(threading.current_thread().name)
        if block in self.gates:
            self.started[block].set()
            assert self.gates[block].wait(PATIENCE_S)
        if block in self.errors:
            raise self.errors[block]
        self.served.append(block)
        return per_run(src_planes, dst_planes, runs)

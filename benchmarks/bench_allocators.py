"""Allocators: how fast, and into how many contiguous groups a request falls (each one is a copy when it is swapped).

A, ``churn``:  prompts of U(1..256) blocks; the live set fills a share of the pool; random victims leave.
B, ``decode``: 256 requests at once, prompts of U(1..64) blocks, then U(1..192) single-block appends, round robin.

Run ``pytest benchmarks/bench_allocators.py``. Full sizes: ``FULL=1 pytest benchmarks/bench_allocators.py``.
``extra_info`` has the groups per request (A: when admitted; B: when finished) and the operations of one round.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from fastswitch.memory import BlockAllocator, BlockGroupAllocator, PagedAllocator

FULL = bool(os.environ.get("FULL"))
CHURN_POOLS = [20_000, 100_000, 1_000_000] if FULL else [20_000]
CHURN_REQUESTS = 10_000 if FULL else 2_000
DECODE_POOLS = [65_536, 34_000, 30_000, 28_500]
DECODE_REQUESTS = 3_000 if FULL else 600
ALLOCATORS = [PagedAllocator, BlockGroupAllocator]


def churn(allocator: BlockAllocator, sizes: list[int], picks: list[float], fill: float) -> list[int]:
    """Workload A; the owners in the order of their admission."""
    most = int(fill * allocator.num_blocks)
    live: list[int] = []
    used = 0
    for owner, (size, pick) in enumerate(zip(sizes, picks, strict=True)):
        while used + size > most:
            slot = int(pick * len(live))
            live[slot], live[-1] = live[-1], live[slot]
            victim = live.pop()
            used -= sizes[victim]
            allocator.free(victim)
        allocator.allocate(owner, size)
        live.append(owner)
        used += size
        yield owner


def churn_inputs(num_requests: int) -> tuple[list[int], list[float]]:
    rng = random.Random(0)
    return [rng.randint(1, 256) for _ in range(num_requests)], [rng.random() for _ in range(num_requests)]


def decode(allocator: BlockAllocator, prompts: list[int], appends: list[int], concurrent: int = 256):
    """Workload B; yields each owner when it finishes, before it is freed."""
    waiting = iter(range(len(prompts)))
    live = []
    left = list(appends)
    while True:
        while len(live) < concurrent and (owner := next(waiting, None)) is not None:
            allocator.allocate(owner, prompts[owner])
            live.append(owner)
        if not live:
            return
        for owner in live:
            allocator.allocate(owner, 1)
            left[owner] -= 1
        for owner in [owner for owner in live if not left[owner]]:
            yield owner
            allocator.free(owner)
        live = [owner for owner in live if left[owner]]


def decode_inputs(num_requests: int) -> tuple[list[int], list[int]]:
    rng = random.Random(0)
    return [rng.randint(1, 64) for _ in range(num_requests)], [rng.randint(1, 192) for _ in range(num_requests)]

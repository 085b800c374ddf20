"""Allocators: how fast, and into how many contiguous groups a request falls (each is a copy when it is swapped).

A, ``churn``:  prompts of U(1..256) blocks; the live set fills a share of the pool; random victims leave.
B, ``decode``: 256 requests at a time with prompts of U(1..64) blocks and U(1..192) appends of one block, round robin.

``pytest benchmarks/bench_allocators.py``; with ``BENCH_FULL=1`` 10,000 (A) and 3,000 (B) requests, and larger pools.
``extra_info``: the groups a request falls into (A: when it is admitted, B: when it has finished) and the time of one
operation (A: admit and free one request, B: one append, the prompts' share included). One thread, no tensors.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator

import pytest

from fastswitch.memory import BlockAllocator, BlockGroupAllocator, PagedAllocator

FULL = bool(os.environ.get("BENCH_FULL"))
CHURN_REQUESTS = 10_000 if FULL else 2_000
CHURN_POOLS = [20_000, 100_000, 1_000_000] if FULL else [20_000]
DECODE_REQUESTS = 3_000 if FULL else 600
DECODE_POOLS = [65_536, 34_000, 30_000, 28_500]
CONCURRENT = 256

ALLOCATORS = pytest.mark.parametrize("impl", [PagedAllocator, BlockGroupAllocator])


def churn_inputs() -> tuple[list[int], list[float]]:
    """Blocks of each prompt, and where in the live set the next victim is, in [0, 1)."""
    rng = random.Random(0)
    return [rng.randint(1, 256) for _ in range(CHURN_REQUESTS)], [rng.random() for _ in range(CHURN_REQUESTS)]


def churn(allocator: BlockAllocator, fill: float, sizes: list[int], picks: list[float]) -> Iterator[int]:
    """Workload A; yields each owner as it is admitted."""
    room = int(fill * allocator.num_blocks)
    live: list[int] = []
    for owner, (size, pick) in enumerate(zip(sizes, picks, strict=True)):
        while size > room:
            slot = int(pick * len(live))
            live[slot], live[-1] = live[-1], live[slot]
            victim = live.pop()
            allocator.free(victim)
            room += sizes[victim]
        allocator.allocate(owner, size)
        live.append(owner)
        room -= size
        yield owner


def decode_inputs() -> tuple[list[int], list[int]]:
    """Blocks of each prompt, and how many are appended."""
    rng = random.Random(0)
    return [rng.randint(1, 64) for _ in range(DECODE_REQUESTS)], [rng.randint(1, 192) for _ in range(DECODE_REQUESTS)]


def decode(allocator: BlockAllocator, prompts: list[int], appends: list[int]) -> Iterator[int]:
    """Workload B; yields each owner when it has finished, before it is freed."""
    waiting = deque(range(len(prompts)))
    left = list(appends)
    live: list[int] = []
    while waiting or live:
        while waiting and len(live) < CONCURRENT:
            live.append(waiting.popleft())
            allocator.allocate(live[-1], prompts[live[-1]])
        for owner in live:
            allocator.allocate(owner, 1)
            left[owner] -= 1
            if not left[owner]:
                yield owner
                allocator.free(owner)
        live = [owner for owner in live if left[owner]]


def measure(benchmark, make, workload, num_operations: int) -> None:
    """Check and count groups in a run of its own, then time the workload alone."""
    allocator = make()
    num_groups = [len(allocator.groups(owner)) for owner in workload(allocator)]
    allocator.check_invariants()
    benchmark.pedantic(lambda: deque(workload(make()), maxlen=0), rounds=3)
    benchmark.extra_info["groups_per_request"] = round(sum(num_groups) / len(num_groups), 3)
    benchmark.extra_info["us_per_operation"] = round(benchmark.stats["min"] / num_operations * 1e6, 3)


@ALLOCATORS
@pytest.mark.parametrize("fill", [0.9, 0.98])
@pytest.mark.parametrize("num_blocks", CHURN_POOLS)
def test_churn(benchmark, num_blocks, fill, impl):
    benchmark.group = f"A: churn, {num_blocks} blocks, {fill:.0%} full"
    inputs = churn_inputs()
    measure(benchmark, lambda: impl(num_blocks), lambda allocator: churn(allocator, fill, *inputs), CHURN_REQUESTS)


@ALLOCATORS
@pytest.mark.parametrize("num_blocks", DECODE_POOLS)
def test_decode(benchmark, num_blocks, impl):
    benchmark.group = f"B: decode, {num_blocks} blocks"
    inputs = decode_inputs()
    measure(benchmark, lambda: impl(num_blocks), lambda allocator: decode(allocator, *inputs), sum(inputs[1]))

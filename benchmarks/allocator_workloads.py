"""The two workloads that allocators are compared on, and what is measured of them.

A, ``churn``:  prompts of U(1..256) blocks; the live set fills a share of the pool; random victims leave.
B, ``decode``: 256 requests at a time with prompts of U(1..64) blocks and U(1..192) appends of one block, round robin.
"""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import fmean
from time import perf_counter, perf_counter_ns

CONCURRENT = 256  # requests at a time in B

Workload = Callable[..., Iterable[int]]  # given an allocator; yields owners when their groups are to be counted


def churn(allocator, room: int, num_requests: int) -> Iterator[int]:
    """Workload A in ``room`` blocks; yields each owner as it is admitted."""
    rng = random.Random(0)
    sizes = [rng.randint(1, 256) for _ in range(num_requests)]
    live: list[int] = []
    for owner, size in enumerate(sizes):
        while size > room:
            slot = int(rng.random() * len(live))
            live[slot], live[-1] = live[-1], live[slot]
            victim = live.pop()
            allocator.free(victim)
            room += sizes[victim]
        allocator.allocate(owner, size)
        live.append(owner)
        room -= size
        yield owner


def decode(allocator, num_requests: int) -> Iterator[int]:
    """Workload B; yields each owner when it has finished, before it is freed."""
    rng = random.Random(0)
    prompts = [rng.randint(1, 64) for _ in range(num_requests)]
    left = [rng.randint(1, 192) for _ in range(num_requests)]
    waiting = deque(range(num_requests))
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


class Stopwatch:
    """An allocator of which every call is timed."""

    def __init__(self, allocator):
        self.allocator = allocator
        self.calls_ns = []
        self.appends = []  # which of the calls allocated one block

    def allocate(self, owner, num_blocks):
        started = perf_counter_ns()
        self.allocator.allocate(owner, num_blocks)
        self.calls_ns.append(perf_counter_ns() - started)
        if num_blocks == 1:
            self.appends.append(len(self.calls_ns) - 1)

    def free(self, owner):
        started = perf_counter_ns()
        self.allocator.free(owner)
        self.calls_ns.append(perf_counter_ns() - started)


def runs_per_request(make, workload: Workload) -> float:
    """Check the allocator on the workload, and count."""
    allocator = make()
    num_runs = [len(allocator.groups(owner)) for owner in workload(allocator)]
    allocator.check_invariants()
    return fmean(num_runs)


def timed(make, workload: Workload) -> float:
    """Seconds of the workload, without garbage collection."""
    allocator = make()
    gc.collect()
    gc.disable()
    try:
        started = perf_counter()
        deque(workload(allocator), maxlen=0)
        return perf_counter() - started
    finally:
        gc.enable()


def call_times(make, workload: Workload, passes: int = 3) -> tuple[float, float]:
    """Microseconds of the worst call and of the mean append, of each call's best pass; the clock's own included."""
    watches = [Stopwatch(make()) for _ in range(passes)]
    for watch in watches:
        timed(lambda watch=watch: watch, workload)
    best = list(map(min, *(watch.calls_ns for watch in watches)))
    return max(best) / 1e3, fmean(best[call] for call in watches[0].appends) / 1e3

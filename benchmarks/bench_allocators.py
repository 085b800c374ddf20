"""Allocators: how fast, and into how many contiguous runs a request falls (each is a copy when it is swapped).

A is prompts alone, random victims leave; B is 256 requests that grow block by block: see `allocator_workloads`.

``python benchmarks/bench_allocators.py`` prints the targets beside what is reached and exits with 1 if a number of runs
misses its target; runs are the same on every machine, while ratios of speeds are only reported. All of a ratio comes
from this one process, in turns, best of 5.

``pytest benchmarks/bench_allocators.py`` times each allocator by itself; with ``BENCH_FULL=1`` on all pools and as many
requests as above, 10,000 (A) and 3,000 (B). In ``extra_info``: requests and appends per second, runs per request (A:
when it is admitted, B: when it has finished), and microseconds of the worst single call (each call's best of 3 passes).

The bare buddies of `textbook_buddy` are yardsticks for speed alone; the one that rounds up has twice the blocks, since
90 % of a pool do not fit into it. One thread, no tensors.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from timeit import timeit
from typing import NamedTuple

import numpy as np
import pytest
from allocator_workloads import Workload, call_times, churn, decode, runs_per_request, timed
from textbook_buddy import RoundingBuddy, TextbookBuddy

from fastswitch.memory import BlockGroupAllocator, PagedAllocator
from fastswitch.memory.buddy import BuddyAllocator

FULL = bool(os.environ.get("BENCH_FULL"))
CHURN_POOLS, DECODE_POOLS = [20_000, 100_000, 1_000_000], [65_536, 34_000, 30_000, 28_500]
CHURN_REQUESTS, DECODE_REQUESTS = 10_000, 3_000
ROUNDS = 5  # of which the best counts

# Fill or pool |-> at most so many runs per request.
CHURN_RUNS = {0.9: 1.1, 0.98: 2.5}
DECODE_RUNS = {65_536: 3.0, 34_000: 3.0, 30_000: 5.2, 28_500: 6.6}
# Fill |-> at least so much of the textbook buddy's speed.
CHURN_SPEED = {0.9: 0.5, 0.98: 0.3}
RUNS = "runs per request"

ALLOCATORS = {"paged": PagedAllocator, "buddy": BuddyAllocator, "block_groups": BlockGroupAllocator}
DECODE = {**ALLOCATORS, "textbook_buddy": TextbookBuddy}
CHURN = {**DECODE, "rounding_buddy": lambda num_blocks: RoundingBuddy(2 * num_blocks)}


def measure(benchmark, make, workload: Workload, num_requests: int) -> None:
    """Check first, then time the workload alone."""
    info = benchmark.extra_info
    info["runs_per_request"] = round(runs_per_request(make, workload), 3)
    benchmark.pedantic(lambda allocator: deque(workload(allocator), maxlen=0), setup=lambda: ((make(),), {}), rounds=3)
    if benchmark.stats is not None:  # it was timed
        info["requests_per_s"] = round(num_requests / benchmark.stats["min"])
    worst_us, append_us = call_times(make, workload)
    info["worst_call_us"] = round(worst_us, 1)
    if workload.func is decode:
        info["appends_per_s"] = round(1e6 / append_us)


@pytest.mark.parametrize("impl", CHURN)
@pytest.mark.parametrize("fill", [0.9, 0.98])
@pytest.mark.parametrize("num_blocks", CHURN_POOLS if FULL else CHURN_POOLS[:1])
def test_churn(benchmark, num_blocks, fill, impl):
    benchmark.group = f"A: churn, {num_blocks} blocks, {fill:.0%} full"
    num_requests = CHURN_REQUESTS if FULL else 2_000
    workload = partial(churn, room=int(fill * num_blocks), num_requests=num_requests)
    measure(benchmark, partial(CHURN[impl], num_blocks), workload, num_requests)


@pytest.mark.parametrize("impl", DECODE)
@pytest.mark.parametrize("num_blocks", DECODE_POOLS if FULL else DECODE_POOLS[::3])
def test_decode(benchmark, num_blocks, impl):
    benchmark.group = f"B: decode, {num_blocks} blocks"
    num_requests = DECODE_REQUESTS if FULL else 600
    measure(benchmark, partial(DECODE[impl], num_blocks), partial(decode, num_requests=num_requests), num_requests)


def table_of(make) -> Callable[[], np.ndarray]:
    """``block_ids`` of an owner that has all 1,000 blocks in one run, checked, and so not for the first time."""
    allocator = make(1_000)
    allocator.allocate("a", 1_000)
    assert sorted(allocator.block_ids("a")) == list(range(1_000))
    return partial(allocator.block_ids, "a")


@pytest.mark.parametrize("impl", ["arange", *ALLOCATORS])
def test_block_ids(benchmark, impl):
    benchmark.group = "block_ids of 1,000 blocks"
    benchmark(partial(np.arange, 1_000) if impl == "arange" else table_of(ALLOCATORS[impl]))


class Row(NamedTuple):
    """A figure beside its target. Runs are the same on every machine; speeds, of which there are ratios, are not."""

    what: str
    figure: float
    relation: str
    target: float | None  # None: for comparison only

    @property
    def reached(self) -> bool:
        if self.target is None:
            return True
        return self.figure <= self.target if self.relation == "<=" else self.figure >= self.target


def in_turns(calls: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The least that each call returns in a few rounds of all of them."""
    rounds = [{name: call() for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in rounds) for name in calls}


def churn_rows() -> Iterator[Row]:
    for fill, most_runs in CHURN_RUNS.items():
        seconds = {}
        for num_blocks in CHURN_POOLS:
            where = f"A, {fill:.0%} of {num_blocks:,} blocks"
            workload = partial(churn, room=int(fill * num_blocks), num_requests=CHURN_REQUESTS)
            makes = {impl: partial(make, num_blocks) for impl, make in CHURN.items()}
            yield Row(f"{where}: {RUNS}", runs_per_request(makes["block_groups"], workload), "<=", most_runs)
            best = in_turns({impl: partial(timed, make, workload) for impl, make in makes.items()})
            seconds[num_blocks] = best["block_groups"]
            for impl, least in {"textbook_buddy": CHURN_SPEED[fill], "rounding_buddy": None, "buddy": 1.0}.items():
                yield Row(f"{where}: speed over {impl}'s", best[impl] / best["block_groups"], ">=", least)
        growth = max(seconds.values()) / seconds[CHURN_POOLS[0]]
        yield Row(f"A, {fill:.0%}: time in the slowest pool over the smallest pool's", growth, "<=", 2.0)


def decode_rows() -> Iterator[Row]:
    workload = partial(decode, num_requests=DECODE_REQUESTS)
    for num_blocks, most_runs in DECODE_RUNS.items():
        where = f"B, {num_blocks:,} blocks"
        makes = [partial(make, num_blocks) for make in (BlockGroupAllocator, PagedAllocator)]
        yield Row(f"{where}: {RUNS}", runs_per_request(makes[0], workload), "<=", most_runs)
        (_, ours), (_, paged) = (call_times(make, workload) for make in makes)
        yield Row(f"{where}: time of an append over paged's", ours / paged, "<=", 3.0)


def first_block_ids() -> float:
    """Seconds to ask 1,000 owners of 1,000 blocks, in one run each, for the first time."""
    allocator = BlockGroupAllocator(1_000_000)
    for owner in range(1_000):
        allocator.allocate(owner, 1_000)
    owners = iter(range(1_000))
    return timeit(lambda: allocator.block_ids(next(owners)), number=1_000)


def block_ids_rows() -> Iterator[Row]:
    again = table_of(BlockGroupAllocator)
    best = in_turns(
        {
            "arange": lambda: timeit(lambda: np.arange(1_000), number=1_000),
            "again": lambda: timeit(again, number=1_000),
            "for the first time": first_block_ids,
        }
    )
    for when in ("again", "for the first time"):
        what = f"block_ids of 1,000 blocks, asked {when}: time over np.arange's"
        yield Row(what, best[when] / best["arange"], "<=", 5.0)


def main() -> int:
    """Print the table; 1 if a number of runs misses its target."""
    missed = False
    print("| what | reached | target | |\n|---|---|---|---|")
    for row in chain(churn_rows(), decode_rows(), block_ids_rows()):
        verdict = "reached" if row.reached else "MISSED"
        target = "- | " if row.target is None else f"{row.relation} {row.target} | {verdict}"
        print(f"| {row.what} | {row.figure:.3f} | {target} |", flush=True)
        missed |= RUNS in row.what and not row.reached
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

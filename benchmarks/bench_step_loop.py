"""The step's own Python: scheduler, memory manager and step loop on a clock that costs nothing.

An executor lets a fixed time pass and answers 0, swaps have landed when they are submitted, so what is left is what
every engine pays a step. 64 requests decode, each of a few hundred to a few thousand tokens; whoever ends is replaced
by another; random priorities change every 25 iterations.

``pytest benchmarks/bench_step_loop.py`` times steps where the pool holds everybody, and where 3,000 more wait behind
those that it holds; then, with that queue, one placement and one update of all levels. In ``extra_info``: microseconds
a step and executed iterations a minute, both of the best round. One thread, no tensors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from fastswitch.engine import BatchEntry, Engine, SwapReport
from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.synchronous_swaps import SynchronousSwaps
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, SwapJob
from fastswitch.sched import (
    PoolView,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Scheduler,
    SwapOut,
)

RESIDENTS = 64
BLOCK_SIZE = 16
ROOMY, FULL = 16_000, 7_200  # device blocks: all 64 at their longest; about 64 at their mean length
PROMPT, ANSWER = (200, 3_000), (200, 600)  # tokens, at least and at most
STEPS = {0: 1_000, 3_000: 200}  # a round, by the number of waiting requests


class FixedTime:
    """Satisfies ``Executor``: 10 ms an iteration, token 0 for everyone."""

    max_context = vocab_size = 128_256

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        self._clock.sleep(0.01)
        return [0 if entry.samples else None for entry in batch]


def move_nothing(job: SwapJob) -> SwapReport:
    """A copy that takes no time."""
    return SwapReport(job, "none", copies=job.num_runs, calls=job.num_runs)


class Load:
    """An engine with as many conversations at any time, each of one turn.

    Args:
        num_waiting: beside the 64; with any, the pool is full.
    """

    def __init__(self, num_waiting: int) -> None:
        self.draws = random.Random(0)
        self.num_conversations = RESIDENTS + num_waiting
        self.clock = VirtualClock()
        device_blocks = FULL if num_waiting else ROOMY
        device, host = BlockGroupAllocator(device_blocks), BlockGroupAllocator(8 * device_blocks)
        self.ranker = PriorityTrace(RandomPriorities(0))
        self.scheduler = Scheduler(self.ranker, PrefillFirst(), SwapOut())
        kv = KVCacheManager(device, host, BLOCK_SIZE)
        swaps = SynchronousSwaps(move_nothing, self.clock)
        self.engine = Engine(FixedTime(self.clock), self.scheduler, kv, swaps, clock=self.clock)
        self.run(200)

    def run(self, num_steps: int) -> int:
        """Step that often; iterations that ran."""
        before = self.engine.executed_iterations
        for _ in range(num_steps):
            while self.engine.num_conversations < self.num_conversations:
                self.engine.submit(range(self.draws.randint(*PROMPT)), self.draws.randint(*ANSWER))
            self.engine.step()
        return self.engine.executed_iterations - before


@pytest.fixture(scope="module")
def queue() -> Load:
    return Load(num_waiting=3_000)


@pytest.mark.parametrize("num_waiting", STEPS)
def test_steps(benchmark, num_waiting):
    benchmark.group = f"{RESIDENTS} residents, {num_waiting} waiting"
    load, num_steps = Load(num_waiting), STEPS[num_waiting]
    assert load.run(num_steps) == num_steps
    load.engine.kv.check_invariants()
    benchmark.pedantic(load.run, args=(num_steps,), rounds=5)
    if benchmark.stats is not None:  # it was timed
        step_s = benchmark.stats.stats.min / num_steps
        benchmark.extra_info["us_a_step"] = round(1e6 * step_s, 1)
        benchmark.extra_info["iterations_a_minute"] = round(60 / step_s)


def test_placement(benchmark, queue):
    """The decision alone, over everybody, in a full pool."""
    benchmark.group = "3,064 requests"
    kv = queue.engine.kv
    room = PoolView(kv.num_free, kv.num_clean, kv.num_vacating, kv.num_host_free)
    requests = list(queue.engine.requests)
    assert len(queue.scheduler.place(requests, room).order) == queue.num_conversations
    benchmark.pedantic(queue.scheduler.place, args=(requests, room), rounds=50)


def test_update(benchmark, queue):
    """A new level for everybody."""
    benchmark.group = "3,064 requests"
    requests = list(queue.engine.requests)
    due = iter(range(10**6, 10**9, 25))
    assert len(queue.ranker.new_levels(requests, next(due))) == queue.num_conversations
    benchmark.pedantic(lambda: queue.ranker.new_levels(requests, next(due)), rounds=50)

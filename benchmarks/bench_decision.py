"""What a decision costs: who of 256 residents and 2,000 waiting requests holds memory, ranking included; its parts.

``pytest benchmarks/bench_decision.py`` times ``Scheduler.place`` for each policy and, in the same group, ``sorted()``
of the same list by arrival, with the same few lines around it. In ``extra_info``: how many times the one the other
takes, medians of calls in turn, so that what slows the machine meets both. Packers share out an iteration, and
evictors are asked about each victim, both over the residents and beside ``sorted()`` of them. One thread, no tensors.

The list comes in no order. 27 clients; levels are drawn from four; somebody is pushed out where the policy allows it.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from operator import attrgetter

import pytest
from bench_step_loop import FixedTime, move_nothing

from fastswitch.engine import Engine
from fastswitch.engine.clock import RealClock, VirtualClock
from fastswitch.engine.room import RoomNow
from fastswitch.engine.synchronous_swaps import SynchronousSwaps
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.sched import (
    FCFS,
    MLFQ,
    VTC,
    Aging,
    CheapestSwitch,
    ChunkedPrefill,
    Evictor,
    Hysteresis,
    LeastBytes,
    Packer,
    PreemptiveVTC,
    PrefillFirst,
    PriorityTrace,
    Ranker,
    Recompute,
    RequestState,
    RequestView,
    Scheduler,
    SwapOut,
)

RESIDENTS, WAITING, CLIENTS = 256, 2_000, 27
BLOCK_SIZE, PROMPT, ANSWER = 16, 1_000, 1_000  # tokens
ROUNDS = 60
MOST = 3.0  # times what sorted() takes


POLICIES: dict[str, Callable[[], Ranker]] = {
    "fcfs": FCFS,
    "priority": lambda: PriorityTrace(None),
    "vtc": VTC,
    "vtc-preemptive": PreemptiveVTC,
    "mlfq": lambda: MLFQ(lambda num_tokens: 1e-4 * num_tokens, 0.01),
    "vtc-preemptive, aging": lambda: Aging(PreemptiveVTC(), max_wait=1000),
    "priority, least bytes": lambda: PriorityTrace(None),
    "priority, least bytes of a level": lambda: Hysteresis(PriorityTrace(None), min_levels=1),
}


class Linear:
    """Prices of a switch that cost nothing to ask for."""

    def out_s(self, num_blocks: int) -> float:
        return 1e-4 * num_blocks

    def in_s(self, num_blocks: int) -> float:
        return 1e-4 * num_blocks

    def recompute_s(self, num_tokens: int) -> float:
        return 1e-4 * num_tokens


PACKERS: dict[str, Packer] = {
    "prefill-first": PrefillFirst(RESIDENTS * PROMPT),
    "chunked": ChunkedPrefill(512),
}
EVICTORS: dict[str, Evictor] = {
    "swap-out": SwapOut(),
    "recompute": Recompute(),
    "cheapest": CheapestSwitch(Linear()),
}


class Crowd:
    """An engine whose pool is full, and everybody who wants it."""

    def __init__(self, policy: str) -> None:
        draws, clock = random.Random(0), VirtualClock()
        blocks = RESIDENTS * (PROMPT // BLOCK_SIZE + 2)
        kv = KVCacheManager(BlockGroupAllocator(blocks), BlockGroupAllocator(8 * blocks), BLOCK_SIZE)
        ranker = POLICIES[policy]()
        victims = LeastBytes(ranker.may_preempt) if "least bytes" in policy else None
        self.scheduler = Scheduler(ranker, PrefillFirst(RESIDENTS * PROMPT), SwapOut(), victims=victims)
        swaps = SynchronousSwaps(move_nothing, clock)
        engine = Engine(FixedTime(clock), self.scheduler, kv, swaps, clock=clock)
        for i in range(RESIDENTS + WAITING):
            engine.submit(range(PROMPT), ANSWER, client_id=i % CLIENTS, priority=draws.randrange(4))
            clock.sleep(0.001)
        for _ in range(3):
            engine.step()
        self.switcher = engine._switcher  # noqa: SLF001 - the room as the engine asks for it: what is needed, once
        self.requests: list[RequestView] = list(engine.requests)
        draws.shuffle(self.requests)

    def decide(self) -> int:
        return len(self.scheduler.place(self.requests, RoomNow(self.switcher)).order)

    @property
    def residents(self) -> list[RequestView]:
        return [request for request in self.requests if request.state is RequestState.RUNNING]

    def sort(self) -> int:
        return len(sorted(self.requests, key=attrgetter("arrival", "request_id")))


def seconds(work: Callable[[], int], clock: RealClock) -> float:
    start = clock.now()
    work()
    return clock.now() - start


def times_of(one: Callable[[], int], other: Callable[[], int]) -> float:
    """How many times as long ``one`` takes as ``other``, medians of as many calls in turn."""
    clock = RealClock()
    ones, others = [], []
    for _ in range(ROUNDS):
        ones.append(seconds(one, clock))
        others.append(seconds(other, clock))
    return statistics.median(ones) / statistics.median(others)


@pytest.mark.parametrize("work", ["sort", "decide"])
@pytest.mark.parametrize("policy", POLICIES)
def test_decision(benchmark, policy, work):
    benchmark.group = f"{policy}: {RESIDENTS} residents, {WAITING} waiting"
    crowd = Crowd(policy)
    assert abs(len(crowd.residents) - RESIDENTS) <= 8
    assert crowd.decide() == crowd.sort() == RESIDENTS + WAITING
    benchmark.pedantic(getattr(crowd, work), rounds=ROUNDS)
    if work == "decide":
        benchmark.extra_info["times_sorted"] = round(times_of(crowd.decide, crowd.sort), 2)
        benchmark.extra_info["target"] = MOST
        placement = crowd.scheduler.place(crowd.requests, RoomNow(crowd.switcher))
        benchmark.extra_info["pushed_out"] = len(placement.evictions)


@pytest.mark.parametrize("packer", PACKERS)
def test_packing(benchmark, packer):
    residents = Crowd("fcfs").residents
    assert PACKERS[packer].pack(residents)
    beside_sorted(benchmark, "packing", lambda: len(PACKERS[packer].pack(residents).scheduled), residents)


@pytest.mark.parametrize("evictor", EVICTORS)
def test_choosing_ways_out(benchmark, evictor):
    residents, choose = Crowd("fcfs").residents, EVICTORS[evictor].choose

    def ways() -> int:
        return len([choose(request, 10_000, WAITING) for request in residents])

    assert ways() == len(residents)
    beside_sorted(benchmark, "ways out", ways, residents)


def beside_sorted(benchmark, group, work, requests):
    """Time it over all residents; how many times ``sorted()`` of them it takes is information, and has no target."""
    benchmark.group = f"{group}: {RESIDENTS} residents"
    benchmark.pedantic(work, rounds=ROUNDS)
    benchmark.extra_info["times_sorted"] = round(
        times_of(work, lambda: len(sorted(requests, key=attrgetter("arrival", "request_id")))), 2
    )

"""Whoever is pushed out, and in whichever way: the tokens are those of an engine that never switches."""

from __future__ import annotations

import itertools
import random

import pytest

from fastswitch.engine import AdaptiveSwap, InlineSwaps
from fastswitch.engine.switch_costs import MeasuredCosts, RunningCosts
from fastswitch.sched import CheapestSwitch, EvictionWay, Hysteresis, LeastBytes, LowestRank, Recompute, SwapOut
from tests.engine.doubles import HeldSwaps
from tests.engine.small_engine import check_answers, finish, make_engine

# a block costs as much as two tokens, so that each way is taken
COSTS = MeasuredCosts(lambda n: 1.0 * n, lambda n: 1.0 * n, lambda n: 0.5 * n)
EVICTORS = {
    "swap-out": lambda _costs: SwapOut(),
    "recompute": lambda _costs: Recompute(),
    "cheapest": CheapestSwitch,
}
CHOICES = {"lowest-rank": lambda _ranker: LowestRank(), "least-bytes": lambda ranker: LeastBytes(ranker.may_preempt)}
STEADY = {
    "any": lambda ranker: ranker,
    "levels": lambda ranker: Hysteresis(ranker, min_levels=1),
    "stay": lambda ranker: Hysteresis(ranker, min_stay=3),
}


def serve(evictor, choice, steady, *, seed, swaps=InlineSwaps, host_blocks=64):
    """Six conversations with two turns each, on a device that holds a third of them."""
    draws = random.Random(seed)
    costs = RunningCosts(COSTS)
    engine = make_engine(
        device_blocks=16,
        host_blocks=host_blocks,
        frequency=0.5,
        evictor=EVICTORS[evictor](costs),
        victims=CHOICES[choice],
        with_ranker=STEADY[steady],
        costs=costs,
        swaps=swaps,
        adaptive=AdaptiveSwap() if swaps is not InlineSwaps else None,
    )
    ways = []
    inner = engine._switcher.evict

    def evict(request, way):
        ways.append(way)
        inner(request, way)

    engine._switcher.evict = evict
    turns = {}
    for wave in range(2):
        for name in range(6):
            prompt = range(100 * name + 10 * wave + 1, 100 * name + 10 * wave + draws.randint(3, 9))
            turn_id = engine.submit(prompt, draws.randint(2, 7), conversation_id=name)
            turns.setdefault(name, []).append(engine.turn(turn_id))
        for _ in range(draws.randint(1, 9)):
            if not engine.step() and engine.num_in_flight:
                engine.wait_for_work()
    for name in turns:
        engine.end_conversation(name)
    finish(engine, engine.kv.check_invariants)
    for of_one in turns.values():
        check_answers(of_one)
    assert all(len(turn.generated) == turn.max_new_tokens for of_one in turns.values() for turn in of_one)
    return ways


@pytest.mark.parametrize(("evictor", "choice", "steady"), list(itertools.product(EVICTORS, CHOICES, STEADY)))
def test_tokens_are_the_same(evictor, choice, steady):
    ways = serve(evictor, choice, steady, seed=0)
    assert len(ways) > 5
    if evictor == "recompute":
        assert set(ways) == {EvictionWay.RECOMPUTE}
    if evictor == "cheapest" and steady == "any":
        assert set(ways) == set(EvictionWay), "each way pays somewhere"


@pytest.mark.parametrize("host_blocks", [4, 64])
@pytest.mark.parametrize("choice", CHOICES)
def test_tokens_are_the_same_beside_copies_that_are_held_and_on_a_host_that_is_full(choice, host_blocks):
    ways = serve("cheapest", choice, "levels", seed=1, swaps=HeldSwaps, host_blocks=host_blocks)
    assert len(ways) > 5


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_tokens_are_the_same_however_it_comes(seed):
    for evictor, choice, steady in itertools.product(EVICTORS, CHOICES, STEADY):
        for swaps, host_blocks in ((InlineSwaps, 64), (HeldSwaps, 8)):
            serve(evictor, choice, steady, seed=seed, swaps=swaps, host_blocks=host_blocks)

"""Every policy under all that a caller can do: right answers to the end, and nothing remembered of who has left."""

from __future__ import annotations

import itertools
import random

import pytest

from fastswitch.engine import AdaptiveSwap
from fastswitch.sched import (
    FCFS,
    MLFQ,
    VTC,
    Accountant,
    Aging,
    ChunkedPrefill,
    Hysteresis,
    LeastBytes,
    LowestRank,
    PreemptiveVTC,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Recompute,
    ServiceCounters,
    SwapOut,
    TokenAccountant,
)
from tests.engine.small_engine import make_engine
from tests.engine.test_random_walks import Caller

POLICIES = {
    "fcfs": FCFS,
    "priority": lambda: PriorityTrace(RandomPriorities(1), 0.5),
    "vtc": lambda: VTC(ServiceCounters(weights={1: 2.0})),
    "vtc-preemptive": lambda: PreemptiveVTC(horizon=1),
    "vtc-preemptive, lazy": lambda: PreemptiveVTC(horizon=4, lead=0.0),
    "mlfq": lambda: MLFQ(lambda num_tokens: 0.5 * num_tokens, 1.0, num_queues=3, starving_iterations=8),
}
CASES = list(itertools.product(POLICIES, [False, True]))
ACTS = ("submit", "submit", "set_priority", "cancel", "suspend", "resume", "end_conversation")


class Both(Accountant):
    """Tells a policy, and counts what was charged."""

    def __init__(self, policy):
        self.policy = policy
        self.counts = TokenAccountant()
        self.prefill_tokens, self.decode_tokens = self.counts.prefill_tokens, self.counts.decode_tokens
        self.admitted_turns = set()
        self.open = set()

    def _tell(self, what, *arguments):
        if hasattr(self.policy, "charge"):  # else it ranks, and is told nothing
            getattr(self.policy, what)(*arguments)

    def arrived(self, request):
        assert request.request_id not in self.open, "a turn arrives once the one before has ended"
        self.open.add(request.request_id)
        self._tell("arrived", request)

    def admitted(self, request, num_prompt_tokens):
        assert request.turn not in self.admitted_turns, "once a turn"
        assert num_prompt_tokens == len(request.turn.prompt)
        self.admitted_turns.add(request.turn)
        self._tell("admitted", request, num_prompt_tokens)

    def charge(self, request, num_prefill_tokens, num_decode_tokens):
        assert request.turn in self.admitted_turns, "nobody is served before it was admitted"
        self.counts.charge(request, num_prefill_tokens, num_decode_tokens)
        self._tell("charge", request, num_prefill_tokens, num_decode_tokens)

    def ended(self, request):
        self.open.remove(request.request_id)
        self._tell("ended", request)


def remembered(policy):
    """What the parts of a policy hold by request; counters are by client, and stay."""
    parts = [policy, *(part for part in vars(policy).values() if type(part).__module__.startswith("fastswitch.sched"))]
    return {
        (type(part).__name__, name): value
        for part in parts
        if not isinstance(part, ServiceCounters | RandomPriorities | TokenAccountant)
        for name, value in vars(part).items()
        if isinstance(value, dict | set | list) and value and name not in ("_claims", "_known", "_contending")
    }


def walk(name, *, aged, seed):
    draws = random.Random(seed)
    policy = POLICIES[name]()
    accountant = Both(policy)
    ranker = policy
    if aged:
        ranker = Aging(policy, max_wait=6)
        accountant = Both(ranker)
    if draws.random() < 0.5:
        ranker = Hysteresis(ranker, min_stay=draws.randint(0, 2))
    engine = make_engine(
        device_blocks=8,
        block_size=2,
        host_blocks=draws.choice([64, 10, 1]),
        ranker=ranker,
        accountant=accountant,
        packer=draws.choice([PrefillFirst(), ChunkedPrefill(2), ChunkedPrefill(16)]),
        evictor=draws.choice([SwapOut(), SwapOut(), Recompute()]),
        victims=draws.choice([lambda _ranker: LowestRank(), lambda ranker: LeastBytes(ranker.may_preempt)]),
        adaptive=draws.choice([None, AdaptiveSwap()]),
        copies_ahead=draws.random() < 0.5,
    )
    caller = Caller(engine, draws.randint)
    for _ in range(3):
        caller.submit()
    for _ in range(60):
        getattr(caller, draws.choice(ACTS))()
        for _ in range(draws.randint(0, 4)):
            engine.step()
            caller.checker.check()
        jobs = engine.swaps.jobs
        if jobs and draws.random() < 0.6:
            (engine.swaps.land if draws.random() < 0.8 else engine.swaps.fail)(draws.randrange(len(jobs)))
    caller.end_everything()
    assert not accountant.open
    assert not remembered(policy)
    if aged:
        assert not remembered(ranker if isinstance(ranker, Aging) else ranker.ranker)


@pytest.mark.parametrize(("name", "aged"), CASES)
def test_a_walk(name, aged):
    for seed in range(6):
        walk(name, aged=aged, seed=seed)


@pytest.mark.long
@pytest.mark.parametrize(("name", "aged"), CASES)
def test_many_walks(name, aged):
    for seed in range(6, 150):
        walk(name, aged=aged, seed=seed)

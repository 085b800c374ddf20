"""With aging nobody starves, whatever a ranker does; without it, somebody does.

The bound. Let N be ``max_wait``, M the most requests at a time, D the pool's blocks, and let a copy land L steps after
it was begun. Nobody has more than ``D x block_size`` tokens, so with a budget of b tokens an iteration computes anybody
anew in ``K = ceil(D x block_size / b)`` iterations, and all prompts on the device in as many and one for each resident:
``C = K + D``. Once a request X has aged:

- at most M - 1 had aged before it. Whoever ages later, or is served, is behind it.
- When X is the first, nobody comes in until it has its room (admission is blocked behind it), and nobody stays who is
  in its way: whoever is protected is served within ``C + 1`` iterations, since prompts come before decodes and no new
  ones do, and then it is not protected; its copy lands after L, and X's own after L.
- Then X, on the device and protected, is served within K if it has a prompt to compute. A decode waits for the prompts
  of those who had room beside it: C for those, and as many times K as there are others that age meanwhile and may push
  out, M: nobody else may. They have room only once: who is served decodes after its prompt, and stays.

So the first is served within ``A = 2 C + 1 + 2 L + (M + 1) K``, any that has aged within ``M A``, and a turn of T
services (its prompt's pieces and its tokens) ends within ``T (N + M A)`` executed iterations of its arrival. That is
loose; it does not depend on how many others come after it, and that is the point.

This holds for turns whose answers have two tokens or more: `PrefillFirst` lets decodes wait while prompts come, and one
that ends with its prompt leaves room for the next one.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.sched import FCFS, Aging, PrefillFirst, Recompute, SwapOut, TokenAccountant
from tests.engine.small_engine import check_answers, finish, make_engine

BLOCKS, BLOCK_SIZE = 6, 2
PROMPTS, ANSWERS = (1, 5), (2, 5)  # lengths: least and most


class Hostile(FCFS):
    """Deserves nobody's trust: another order each time, and no word about pushing out that it keeps."""

    def __init__(self, seed, victim=None):
        self.draws = random.Random(seed)
        self.victim = victim  # request_id that is always last

    def _is_victim(self, request):
        return request.request_id == self.victim

    def is_due(self, executed_iterations):
        return True


class Shuffling(Hostile):
    def order(self, requests):
        shuffled = list(requests)
        self.draws.shuffle(shuffled)
        return sorted(shuffled, key=self._is_victim)

    def may_preempt(self, challenger, holder):
        return not self._is_victim(challenger)


class Lying(Shuffling):
    def may_preempt(self, challenger, holder):
        return self.draws.random() < 0.5


class Flipping(Hostile):
    """First come first served, and the reverse, in turn."""

    def order(self, requests):
        self.flipped = not getattr(self, "flipped", False)
        return sorted(super().order(requests)[:: -1 if self.flipped else 1], key=self._is_victim)

    def may_preempt(self, challenger, holder):
        return not self._is_victim(challenger)


class LastComeFirst(Hostile):
    def order(self, requests):
        return super().order(requests)[::-1]

    def may_preempt(self, challenger, holder):
        return super().may_preempt(holder, challenger)


HOSTILE = (Shuffling, Lying, Flipping, LastComeFirst)


def bound(num_services, max_wait, *, most_requests, budget, land_after):
    """Executed iterations from the arrival of a turn to its end, at most."""
    anew = math.ceil(BLOCKS * BLOCK_SIZE / budget)
    prompts = anew + BLOCKS
    first = 2 * prompts + 1 + 2 * land_after + (most_requests + 1) * anew
    return num_services * (max_wait + most_requests * first)


class Stream:
    """Keeps as many turns coming as have ended, and looks at how long each was there.

    Args:
        engine: of ``BLOCKS`` blocks.
        most_requests: at a time.
        land_after: steps from a copy's begin to its landing, at most.
        limit: (turn) -> executed iterations that it may be there; None: any number.
        draws: lengths of what comes.
    """

    def __init__(self, engine, most_requests, land_after, limit, draws):
        self.engine, self.most_requests, self.land_after = engine, most_requests, land_after
        self.limit, self.draws = limit, draws
        self.came = {}  # turn_id |-> iterations that had run
        self.open = []  # turn_ids
        self.begun = {}  # job_id |-> steps that had been made
        self.num_steps = 0

    def submit(self, num_prompt, num_answer):
        prompt = range(100 * len(self.came), 100 * len(self.came) + num_prompt)
        turn_id = self.engine.submit(prompt, num_answer)
        self.came[turn_id] = self.engine.executed_iterations
        self.open.append(turn_id)
        return turn_id

    def step(self):
        while len(self.open) < self.most_requests:
            self.submit(self.draws.randint(*PROMPTS), self.draws.randint(*ANSWERS))
        for job in list(self.engine.swaps.jobs):
            been = self.num_steps - self.begun.setdefault(job.job_id, self.num_steps)
            if been >= self.land_after and job in self.engine.swaps.jobs:  # else it has landed with one after it
                self.engine.swaps.land(self.engine.swaps.jobs.index(job))
        self.num_steps += 1
        if not self.engine.step():
            self.engine.wait_for_work()
        self.look()

    def look(self):
        for turn_id in self.open:
            turn = self.engine.turn(turn_id)
            been = self.engine.executed_iterations - self.came[turn_id]
            if self.limit is not None:
                assert been <= self.limit(turn), f"turn {turn_id} has {len(turn.generated)} tokens after {been}"
        self.open = [turn_id for turn_id in self.open if not self.engine.turn(turn_id).ended]

    def end(self):
        """Nobody comes any more: all is served, and right."""
        checker = InvariantChecker(self.engine)
        finish(self.engine, checker.check)
        for turn_id in self.came:
            turn = self.engine.turn(turn_id)
            assert len(turn.generated) == turn.max_new_tokens
            check_answers([turn])
        check_all_free(self.engine)


def make_stream(hostile, seed, *, max_wait, evictor, budget, most_requests, land_after, most=None):
    """A stream on an engine whose ranker is hostile to its first turn; aging where ``max_wait`` is given."""
    ranker, accountant = hostile(seed, victim=0), TokenAccountant()
    if max_wait is not None:
        ranker = accountant = Aging(ranker, accountant, max_wait=max_wait)
    engine = make_engine(
        device_blocks=BLOCKS,
        block_size=BLOCK_SIZE,
        evictor=evictor(),
        packer=PrefillFirst(budget),
        ranker=ranker,
        accountant=accountant,
    )

    def limit(turn):
        services = math.ceil(len(turn.prompt) / budget) + turn.max_new_tokens
        return bound(services, max_wait, most_requests=most_requests, budget=budget, land_after=land_after)

    return Stream(engine, most_requests, land_after, limit if most is None else most, random.Random(seed))


SITUATIONS = {
    "hostile": st.sampled_from(HOSTILE),
    "seed": st.integers(0, 2**16),
    "max_wait": st.integers(1, 12),
    "evictor": st.sampled_from([SwapOut, Recompute]),
    "budget": st.sampled_from([3, 8192]),
    "most_requests": st.integers(2, 6),
    "land_after": st.integers(0, 3),
}


def serve(num_steps, hostile, seed, **setting):
    stream = make_stream(hostile, seed, **setting)
    for _ in range(num_steps):
        stream.step()
    stream.end()


@given(**SITUATIONS)
@settings(settings.default, max_examples=20)
def test_with_aging_every_turn_ends_within_the_bound(**situation):
    serve(150, **situation)


@pytest.mark.long
@given(**SITUATIONS)
@settings(settings.default, max_examples=300)
def test_with_aging_every_turn_ends_within_the_bound_for_long(**situation):
    serve(1500, **situation)


SETTING = {"max_wait": 8, "budget": 8192, "most_requests": 4, "land_after": 1}
VICTIM = (9, 3)  # its prompt and its answer: it fills the pool


def steps_to_serve_the_victim(stream, at_most):
    """Executed iterations until the first turn has ended; None if it has not after so many."""
    victim = stream.engine.turn(stream.submit(*VICTIM))
    while not victim.ended:
        stream.step()
        if stream.engine.executed_iterations > at_most:
            return None
    return stream.engine.executed_iterations


@pytest.mark.parametrize("evictor", [SwapOut, Recompute])
@pytest.mark.parametrize("hostile", [Shuffling, Flipping, LastComeFirst])
def test_without_aging_the_bound_finds_who_starves(hostile, evictor):
    """The same streams with aging and without: the one ends within the bound, the other shows nothing for it."""
    most = bound(1 + VICTIM[1], SETTING["max_wait"], most_requests=4, budget=8192, land_after=1)
    aging = make_stream(hostile, 3, evictor=evictor, **SETTING)
    served = steps_to_serve_the_victim(aging, most)
    assert served is not None
    aging.end()
    starving = make_stream(hostile, 3, evictor=evictor, **SETTING | {"max_wait": None}, most=lambda _: math.inf)
    assert steps_to_serve_the_victim(starving, most) is None
    assert len(starving.engine.turn(0).generated) <= 1
    assert len(starving.came) > 50, "everybody else was served meanwhile"
    starving.end()


def test_the_wait_is_what_aging_says_where_nothing_else_is_in_the_way():
    """One that is always last among two that fit one at a time: a token each ``max_wait`` iterations and a few."""
    stream = make_stream(LastComeFirst, 0, evictor=SwapOut, **SETTING | {"most_requests": 2, "land_after": 0})
    victim = stream.engine.turn(stream.submit(8, 4))
    while not victim.ended:
        stream.step()
    times = [stream.came[0], *victim.token_times]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap <= SETTING["max_wait"] + 4 for gap in gaps)

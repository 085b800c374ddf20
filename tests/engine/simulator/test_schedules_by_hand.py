"""What each fair policy decides, against schedules worked on paper from its rules.

A block holds 4 tokens, an iteration takes a second, copies are synchronous, a second a block. Counters are written as
A 5, B 5; a prompt's token weighs 1, an answer's 2.
"""

from __future__ import annotations

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator import LinkCosts, RooflineExecutor, VirtualInlineSwaps
from fastswitch.engine.simulator.charged_scheduler import ChargedScheduler
from fastswitch.sched import (
    FCFS,
    VTC,
    Decision,
    PreemptiveVTC,
    PrefillFirst,
    Scheduler,
    SwapOut,
    first_difference,
)
from tests.engine.simulator.small_bed import A_SECOND, SECOND_A_CALL, make_bed

SYNCHRONOUS = RunSpec("synchronous", "groups", "block_major", "per_block", False, False, "")


def make_engine(policy, device_blocks, *, decision_s=0.0):
    spec = make_bed(A_SECOND, device_blocks=device_blocks).spec
    clock = VirtualClock()
    swaps = VirtualInlineSwaps(clock, LinkCosts(SECOND_A_CALL, spec.layout, "per_block"), spec.layout.block_bytes)
    executor = RooflineExecutor(A_SECOND, clock, max_context=1000)
    scheduler = ChargedScheduler(Scheduler(policy, PrefillFirst(), SwapOut()), clock, decision_s)
    return Engine(executor, scheduler, spec.manager(SYNCHRONOUS), swaps, clock=clock)


def iterate(engine, until):
    while engine.executed_iterations < until:
        if not engine.step():
            engine.wait_for_work()


def step(iteration, ranked, packed, *, out=(), back=(), new=()):
    return Decision(iteration, ranked, tuple((each, "swap_out") for each in out), back, new, packed)


def check(log, by_hand):
    assert first_difference(log.decisions, by_hand) is None


def test_a_decision_takes_its_time_on_the_virtual_clock():
    engine = make_engine(FCFS(), device_blocks=2, decision_s=0.125)
    turns = [engine.turn(engine.submit(range(3), 2)) for _ in range(3)]
    iterate(engine, 3)
    # 3 are ranked; the two that came in have made their step and one waits: they are looked at again; it is ranked
    # alone when the others have gone
    assert [turn.token_times for turn in turns] == [[1.375, 2.625], [1.375, 2.625], [3.75]]


def test_vtc_takes_up_the_earliest_of_the_client_with_the_least_counter():
    vtc = VTC()
    engine = make_engine(vtc, device_blocks=2)  # two at once: 3 tokens of prompt and 2 of answer are one block
    log = engine.log_decisions()
    for client in "AAAB":
        engine.submit(range(3), 2, client_id=client)  # requests 0, 1 and 2 of A, 3 of B
    iterate(engine, 2)
    engine.submit(range(3), 2, client_id="C")  # request 4
    iterate(engine, 6)
    engine.submit(range(3), 2, client_id="B")  # request 5, when nobody else is there
    iterate(engine, 8)
    check(
        log,
        [
            # A 0, B 0: 0 is taken up and A is 3, so 3, not 1, is next; behind them 1 at A 3, 2 at A 6
            step(0, (0, 3, 1, 2), ((0, 0, 3), (3, 0, 3)), new=(0, 3)),
            step(1, (0, 3, 1, 2), ((0, 3, 1), (3, 3, 1))),
            # A 7, B 7. C is lifted to A's 7, the least in the queue; 1 came earlier; then 2 at A 10
            step(2, (1, 4, 2), ((1, 0, 3), (4, 0, 3)), new=(1, 4)),
            step(3, (1, 4, 2), ((1, 3, 1), (4, 3, 1))),
            step(4, (2,), ((2, 0, 3),), new=(2,)),
            step(5, (2,), ((2, 3, 1),)),
            # A 21. The queue was empty: B is lifted to A's, who left it last
            step(6, (5,), ((5, 0, 3),), new=(5,)),
            step(7, (5,), ((5, 3, 1),)),
        ],
    )
    assert vtc.counters.values == {"A": 21, "B": 21 + 7, "C": 7 + 7}


def test_vtc_pushes_nobody_out_for_one_who_waits():
    vtc = VTC()
    engine = make_engine(vtc, device_blocks=2)
    log = engine.log_decisions()
    for client in "AAB":
        engine.submit(range(1), 4, client_id=client)
    iterate(engine, 4)
    engine.submit(range(1), 2, client_id="A")
    iterate(engine, 6)
    check(
        log,
        [
            # A 0, B 0: 0, then A 1 and so 2
            step(0, (0, 2, 1), ((0, 0, 1), (2, 0, 1)), new=(0, 2)),
            step(1, (0, 2, 1), ((0, 1, 1), (2, 1, 1))),
            step(2, (0, 2, 1), ((0, 2, 1), (2, 2, 1))),
            step(3, (0, 2, 1), ((0, 3, 1), (2, 3, 1))),
            # A 9, B 9; nobody but A is there
            step(4, (1, 3), ((1, 0, 1), (3, 0, 1)), new=(1, 3)),
            step(5, (1, 3), ((1, 1, 1), (3, 1, 1))),
        ],
    )


def test_preemptive_vtc_lets_residency_follow_the_counters():
    policy = PreemptiveVTC(horizon=1)  # a lead of 2 weighted tokens
    engine = make_engine(policy, device_blocks=2)
    log = engine.log_decisions()
    for _ in range(2):
        engine.submit(range(1), 4, client_id="A")  # 0 and 1: never more than a block each
    iterate(engine, 2)
    engine.submit(range(1), 4, client_id="B")  # 2
    iterate(engine, 6)
    check(
        log,
        [
            # claims: 0 at A 0, 1 at A 0 + 1 + 2
            step(0, (0, 1), ((0, 0, 1), (1, 0, 1)), new=(0, 1)),
            step(1, (0, 1), ((0, 1, 1), (1, 1, 1))),
            # A 10; B is lifted to it. Claims: 0 at 10, 2 at 10, 1 at 12: 2 is behind by the lead, so 1 leaves for it
            step(2, (0, 2, 1), ((0, 2, 1), (2, 0, 1)), out=(1,), new=(2,)),
            # A 12, B 13. A, who had all it wanted, is lifted to 13: 0 at 13, 2 at 13, 1 at 15, who finds no room
            step(3, (0, 2, 1), ((0, 3, 1), (2, 1, 1))),
            # A 15, B 15; 0 has ended, so its room is 1's
            step(4, (1, 2), ((1, 2, 1), (2, 2, 1)), back=(1,)),
            step(5, (1, 2), ((1, 3, 1), (2, 3, 1))),
        ],
    )
    assert policy.counters.values == {"A": 19, "B": 19}


def test_preemptive_vtc_ranks_anew_though_nobody_comes_or_goes():
    policy = PreemptiveVTC(horizon=1)
    engine = make_engine(policy, device_blocks=1)
    log = engine.log_decisions()
    for client in "AB":
        engine.submit(range(1), 3, client_id=client)
    iterate(engine, 6)
    check(
        log,
        [
            step(0, (0, 1), ((0, 0, 1),), new=(0,)),
            # A 3, B 0: behind by the lead of 2
            step(1, (1, 0), ((1, 0, 1),), out=(0,), new=(1,)),
            # A 3, B 3
            step(2, (0, 1), ((1, 1, 1),)),
            # A 3, B 5
            step(3, (0, 1), ((0, 1, 1),), out=(1,), back=(0,)),
            # A 5, B 5
            step(4, (0, 1), ((0, 2, 1),)),
            # A has ended
            step(5, (1,), ((1, 2, 1),), back=(1,)),
        ],
    )

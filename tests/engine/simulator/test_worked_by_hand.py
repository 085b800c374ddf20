"""Two requests in a pool for one of them: the moment of every token, worked out on paper.

An iteration takes a second and a copy call another, so ``per_block`` takes one a block; blocks hold 4 or 16 tokens.
A request of n known tokens holds blocks for all of them; the newest one's KV is made in the next iteration.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastswitch.engine.adaptive import AdaptiveSwap
from fastswitch.engine.checks import check_all_free
from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator import LinkCosts, RooflineExecutor, VirtualInlineSwaps, VirtualSwaps
from fastswitch.sched import PrefillFirst, PriorityTrace, Recompute, Scheduler, SwapOut
from tests.engine.simulator.small_bed import A_SECOND, COMPUTING, SECOND_A_CALL, make_bed

SYNCHRONOUS = RunSpec("synchronous", "groups", "block_major", "per_block", False, False, "")
REUSING = RunSpec("reusing", "groups", "block_major", "per_block", False, True, "")
ASYNCHRONOUS = RunSpec("asynchronous", "groups", "block_major", "per_block", True, False, "")
RECOMPUTING = RunSpec("recomputing", "paged", "block_major", None, False, False, "")


def make_engine(run, roofline=A_SECOND, *, link=SECOND_A_CALL, adaptive=None, copies_ahead=False, **pools):
    """An engine that keeps the levels it is given."""
    spec = make_bed(roofline, **pools).spec
    clock = VirtualClock()
    swaps_class = VirtualSwaps if run.asynchronous else VirtualInlineSwaps
    swaps = swaps_class(clock, LinkCosts(link, spec.layout, run.way or "per_run"), spec.layout.block_bytes)
    executor = RooflineExecutor(roofline, clock, max_context=1000)
    evictor = Recompute() if run.way is None else SwapOut()
    scheduler = Scheduler(PriorityTrace(None), PrefillFirst(), evictor)
    manager = spec.manager(run)
    return Engine(executor, scheduler, manager, swaps, clock=clock, adaptive=adaptive, copies_ahead=copies_ahead)


def ask(engine, num_tokens, num_new, level, conversation=None):
    return engine.turn(engine.submit(range(num_tokens), num_new, priority=level, conversation_id=conversation))


def steps(engine, until):
    """Step to that moment exactly."""
    while engine.clock.now() < until:
        if not engine.step():
            engine.wait_for_work()
    assert engine.clock.now() == until


def finish(engine, *turns):
    while not all(turn.ended for turn in turns):
        if not engine.step():
            engine.wait_for_work()
    engine.step()


def test_synchronous_the_pool_stands_still_while_one_is_copied_for_the_other():
    engine = make_engine(SYNCHRONOUS, device_blocks=3)
    low = ask(engine, 4, 6, level=1)
    steps(engine, until=2.0)  # low: tokens at 1 and 2; 6 known, 2 blocks
    high = ask(engine, 8, 3, level=0)  # needs 2 blocks, 1 is free
    finish(engine, low, high)
    # 2-4 low's 2 blocks go out; 4-7 high, whose 3 tokens need all 3 blocks; 7-9 low's 2 blocks come back; 9-13 low
    assert high.token_times == [5.0, 6.0, 7.0]
    assert low.token_times == [1.0, 2.0, 10.0, 11.0, 12.0, 13.0]
    assert low.switched == [False, False, True, False, False, False]
    assert engine.stall_s == 4.0
    switches = engine.counts.as_json(engine.stall_s)
    assert (switches["swap_outs"], switches["swap_ins"], switches["calls"], switches["copy_s"]) == (1, 1, 4, 4.0)
    assert (switches["bytes_out"], switches["bytes_in"]) == (32, 32)  # 2 blocks of 4 tokens of 4 bytes
    check_all_free(engine)


def third_party(engine):
    """Somebody of the best level who fits beside either of the two: 1 block, 12 tokens to generate."""
    return ask(engine, 2, 12, level=0)


def test_asynchronous_a_third_one_goes_on_while_the_two_are_exchanged():
    engine = make_engine(ASYNCHRONOUS, device_blocks=4, block_size=16)  # always overlaps
    third, low = third_party(engine), ask(engine, 16, 6, level=2)
    steps(engine, until=2.0)  # low has 18 tokens, 2 blocks; 1 block is free
    high = ask(engine, 40, 2, level=1)  # needs 3 blocks
    finish(engine, third, low, high)
    # 2-4 low goes out, third has tokens at 3 and 4; 4-5 high's prompt, decodes stand still; 6 high is done;
    # 6-8 low comes back, third has tokens at 7 and 8; low goes on at 9
    assert high.token_times == [5.0, 6.0]
    assert low.token_times == [1.0, 2.0, 9.0, 10.0, 11.0, 12.0]
    assert third.token_times == [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0]
    assert engine.stall_s == 0
    assert third.switched == [False] * 12
    check_all_free(engine)


def test_asynchronous_a_landing_in_the_middle_of_an_iteration_is_seen_at_its_end():
    shorter = replace(A_SECOND, iteration_s=0.75)
    engine = make_engine(ASYNCHRONOUS, shorter, device_blocks=4, block_size=16)
    third, low = third_party(engine), ask(engine, 16, 3, level=2)
    steps(engine, until=1.5)
    high = ask(engine, 40, 1, level=1)
    finish(engine, third, low, high)
    # 1.5-3.5 low goes out; third has tokens at 2.25, 3 and 3.75; 3.75-4.5 high's prompt, and it is done;
    # 4.5-6.5 low comes back; third has tokens at 5.25, 6 and 6.75; 6.75-7.5 low
    assert high.token_times == [4.5]
    assert low.token_times == [0.75, 1.5, 7.5]
    assert third.token_times[:8] == [0.75, 1.5, 2.25, 3.0, 3.75, 5.25, 6.0, 6.75]


def test_asynchronous_who_is_wanted_back_before_the_copy_has_ended_waits_for_its_end_and_lost_nothing():
    engine = make_engine(ASYNCHRONOUS, device_blocks=5, block_size=16)
    third, low = third_party(engine), ask(engine, 33, 6, level=2)
    steps(engine, until=2.0)  # low has 35 tokens in 3 blocks
    engine.suspend(low.turn_id)
    steps(engine, until=4.0)
    engine.resume(low.turn_id)
    finish(engine, third, low)
    # 2-5 it goes out; nobody wanted its blocks, so it goes on at once
    assert low.token_times[:3] == [1.0, 2.0, 6.0]
    assert third.token_times == list(range(1, 13))
    assert (engine.counts.as_json(0)["swap_outs"], engine.counts.as_json(0)["swap_ins"]) == (1, 0)


def test_asynchronous_an_engine_that_waits_stands_still_for_each_copy():
    engine = make_engine(ASYNCHRONOUS, device_blocks=4, block_size=16, adaptive=AdaptiveSwap())
    third, low = third_party(engine), ask(engine, 16, 6, level=2)
    steps(engine, until=2.0)
    high = ask(engine, 40, 2, level=1)  # of no direction a copy was seen yet, so both are waited for
    finish(engine, third, low, high)
    # 2-4 low goes out, all wait; 5 high's prompt, 6 high is done; 6-8 low comes back, all wait; 9 low goes on
    assert high.token_times == [5.0, 6.0]
    assert low.token_times == [1.0, 2.0, 9.0, 10.0, 11.0, 12.0]
    assert third.token_times == [1.0, 2.0, 6.0, *range(9, 18)]
    assert engine.stall_s == 4.0
    check_all_free(engine)


def test_asynchronous_with_nobody_else_to_run_the_engine_waits_and_that_is_stall():
    engine = make_engine(ASYNCHRONOUS, device_blocks=3)
    low = ask(engine, 4, 6, level=1)
    steps(engine, until=2.0)
    high = ask(engine, 8, 3, level=0)
    finish(engine, low, high)
    # overlapping with nothing, it takes as long as the synchronous one
    assert high.token_times == [5.0, 6.0, 7.0]
    assert low.token_times == [1.0, 2.0, 10.0, 11.0, 12.0, 13.0]
    assert engine.stall_s == 4.0


def test_recompute_drops_at_once_and_computes_everything_again():
    # a token takes 1/4 s, a sampled one 1/4 more, a pair of query and key 1/32, an iteration 1 s besides
    engine = make_engine(RECOMPUTING, COMPUTING, device_blocks=3)
    low = ask(engine, 4, 4, level=1)
    prefilled = 4 / 4 + 10 / 32 + 1 / 4 + 1  # 1 + 2 + 3 + 4 pairs
    decoded = prefilled + 1 / 4 + 5 / 32 + 1 / 4 + 1
    steps(engine, until=decoded)
    high = ask(engine, 8, 2, level=0)
    finish(engine, low, high)
    first = decoded + 8 / 4 + 36 / 32 + 1 / 4 + 1
    second = first + 1 / 4 + 9 / 32 + 1 / 4 + 1
    assert high.token_times == [first, second]
    # low knows 6 tokens: its prompt of 4 and 2 of its own, of which 5 had KV
    again = second + 6 / 4 + 21 / 32 + 1 / 4 + 1
    assert low.token_times == [prefilled, decoded, again, again + 1 / 4 + 7 / 32 + 1 / 4 + 1]
    assert low.switched == [False, False, True, False]
    switches = engine.counts.as_json(engine.stall_s)
    assert (switches["drops"], switches["recomputed_tokens"], switches["stall_s"]) == (1, 5, 0)
    assert (switches["swap_outs"], switches["bytes_out"], switches["copies"]) == (0, 0, 0)
    check_all_free(engine)


@pytest.mark.parametrize("run", [SYNCHRONOUS, REUSING])
def test_a_second_turn_copies_back_what_went_out_and_with_reuse_later_only_the_increment_goes_out(run):
    engine = make_engine(run, device_blocks=4)
    question = ask(engine, 8, 1, level=1, conversation="talk")
    steps(engine, until=1.0)  # 8 tokens have KV, in 2 blocks; the answer, token 9, has none yet
    other = ask(engine, 13, 1, level=0)  # needs all 4 blocks
    steps(engine, until=4.0)  # 1-3 the idle conversation's 2 blocks go out
    assert other.token_times == [4.0]
    follow_up = ask(engine, 3, 4, level=1, conversation="talk")  # 9 + 3 tokens, of which 8 have KV on the host
    steps(engine, until=8.0)
    # 4-6 its 2 blocks come back; 6-7 the answer and the 3 new tokens are computed; 8: 13 tokens have KV, 14 are known
    assert follow_up.token_times == [7.0, 8.0]
    another = ask(engine, 13, 1, level=0)
    finish(engine, follow_up, another)
    # 13 tokens lie in 4 blocks. With reuse 8 of them, 2 blocks, are on the host still.
    out_s = 2.0 if run is REUSING else 4.0
    assert another.token_times == [8 + out_s + 1]
    # all 4 blocks come back
    assert follow_up.token_times[2:] == [8 + out_s + 1 + 4 + 1, 8 + out_s + 1 + 4 + 2]
    assert question.token_times == [1.0]
    assert engine.stall_s == 2 + 2 + out_s + 4
    switches = engine.counts.as_json(engine.stall_s)
    assert switches["reused_tokens"] == (8 if run is REUSING else 0)
    assert (switches["blocks_out"], switches["blocks_in"]) == (2 + out_s, 2 + 4)
    assert switches["recomputed_tokens"] == 0

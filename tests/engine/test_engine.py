"""The engine's public surface, on a model of integers whose answers show any byte out of place."""

from __future__ import annotations

import pytest

from fastswitch.engine import AdaptiveSwap, DeadlockError, InlineSwaps
from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.memory import SwapDirection
from fastswitch.sched import ChunkedPrefill, PrefillFirst, Recompute, RequestState
from tests.engine.doubles import answer
from tests.engine.small_engine import check_answers, finish, make_engine

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN


def states(engine):
    return [request.state for request in engine.requests]


def jobs_of(engine, direction):
    return [report.job for report in engine.counts.of(direction)]


def switched_pair(engine, first_len=9, second_len=9):
    """Two conversations that do not fit together, the second one better; the first is resident and being computed."""
    first = engine.submit(range(first_len), 6, priority=1, conversation_id="first")
    engine.step()
    second = engine.submit(range(100, 100 + second_len), 3, priority=0, conversation_id="second")
    return first, second


def step_until_copying(engine, direction):
    """Step until one copy of that direction is in flight, and leave it there."""
    for _ in range(100):
        ran = engine.step()
        if [job.direction for job in engine.swaps.jobs] == [direction]:
            return
        if not ran:
            engine.wait_for_work()
    raise AssertionError(f"no {direction} in 100 steps")


# Tokens


def test_one_turn_is_a_conversation_that_ends_by_itself():
    engine = make_engine()
    turn_id = engine.submit([5, 6, 7], 4)
    finish(engine)
    assert engine.turn(turn_id).generated == answer([5, 6, 7], 4)
    assert engine.num_conversations == 0
    assert engine.executed_iterations == 4
    check_all_free(engine)


def test_stream_drives_the_engine_and_yields_in_order():
    engine = make_engine()
    other = engine.submit([1, 2], 3)
    turn_id = engine.submit([5, 6, 7], 5)
    stream = engine.stream(turn_id)
    assert engine.executed_iterations == 0
    assert next(stream) == answer([5, 6, 7], 1)[0]
    assert list(stream) == answer([5, 6, 7], 5)[1:]
    assert list(engine.stream(turn_id)) == answer([5, 6, 7], 5)  # an ended turn is on record
    assert engine.turn(other).generated == answer([1, 2], 3)


def test_history_is_inputs_and_answers():
    engine = make_engine(device_blocks=16)
    turns = [engine.turn(engine.submit(prompt, 3, conversation_id="c")) for prompt in ([1, 2], [3], [4, 5])]
    finish(engine)
    first = answer([1, 2], 3)
    second = answer([1, 2, *first, 3], 3)
    assert turns[0].generated == first
    assert turns[1].generated == second
    assert turns[2].generated == answer([1, 2, *first, 3, *second, 4, 5], 3)
    # the KV of a turn stays: the next one computes its input and the last token, which had no KV yet
    assert [batch[0].num_tokens for batch in engine.executor.batches] == [2, 1, 1, 2, 1, 1, 3, 1, 1]


def test_queued_turns_run_one_after_the_other():
    engine = make_engine(device_blocks=16)
    first, second = (engine.turn(engine.submit([n], 2, conversation_id="c")) for n in (1, 2))
    engine.step()
    assert (len(first.generated), len(second.generated)) == (1, 0)
    assert states(engine) == [RequestState.RUNNING]
    finish(engine)
    assert second.arrival == first.token_times[-1]  # a turn never arrives before the one before it has ended
    check_answers([first, second])
    engine.end_conversation("c")
    check_all_free(engine)


def test_token_times_and_switches_are_recorded():
    engine = make_engine(swaps=InlineSwaps)
    first, second = switched_pair(engine)
    finish(engine)
    turn = engine.turn(first)
    assert turn.token_times == sorted(turn.token_times)
    assert len(turn.token_times) == len(turn.generated) == len(turn.switched) == 6
    assert turn.switched.count(True) == 1
    assert engine.turn(second).switched == [False] * 3


# Switches


def test_a_request_that_is_switched_gives_the_same_tokens():
    engine = make_engine()
    checker = InvariantChecker(engine)
    first, second = switched_pair(engine)
    finish(engine, checker.check)
    assert [job.request_id for job in jobs_of(engine, OUT)] == [0, 1]
    assert [job.request_id for job in jobs_of(engine, IN)] == [0]
    check_answers([engine.turn(first)])
    check_answers([engine.turn(second)])


def test_the_next_swap_out_moves_only_the_increment():
    engine = make_engine(device_blocks=8, block_size=2)
    first, _ = switched_pair(engine)
    engine.end_conversation("second")
    while len(jobs_of(engine, IN)) < 1:
        engine.step() or engine.wait_for_work()
    engine.step()
    third = engine.submit(range(200, 209), 3, priority=0)
    finish(engine)
    outs = [job for job in jobs_of(engine, OUT) if job.request_id == 0]
    whole, increment = (job.ranges[0] for job in outs[:2])
    assert (whole.start_token, whole.end_token) == (0, 9)
    assert increment.start_token == 9
    # token 8 lies in a block that was half full at the first copy and has grown: it is copied again
    assert [job.num_blocks for job in outs[:2]] == [5, -(-increment.end_token // 2) - 9 // 2]
    assert engine.counts.reused_tokens >= 9
    for turn_id in (first, third):
        check_answers([engine.turn(turn_id)])


def test_without_reuse_each_swap_out_moves_everything():
    engine = make_engine(reuse=False, swaps=InlineSwaps, frequency=1.0)
    turns = [engine.turn(engine.submit(range(n * 10, n * 10 + 9), 6)) for n in range(3)]
    finish(engine)
    outs = jobs_of(engine, OUT)
    assert len(outs) > 3
    assert {job.ranges[0].start_token for job in outs} == {0}
    assert engine.counts.reused_tokens == 0
    for turn in turns:
        check_answers([turn])


def test_an_idle_conversation_leaves_only_when_room_is_wanted():
    engine = make_engine(device_blocks=12)
    for name in ("long idle", "short idle"):
        engine.submit([1, 2, 3, 4], 3, conversation_id=name)
        finish(engine)
    engine.submit([5, 6, 7, 8], 3, conversation_id="third")
    finish(engine)
    assert states(engine) == [RequestState.IDLE] * 3
    assert engine.counts.reports == []
    wants_room = engine.submit(range(14), 2)
    finish(engine)
    assert [job.request_id for job in jobs_of(engine, OUT)] == [0, 1]  # 3 blocks free, 8 needed: longest idle first
    assert states(engine)[2] is RequestState.IDLE
    back = engine.submit([9], 2, conversation_id="long idle")
    finish(engine)
    history = [1, 2, 3, 4, *answer([1, 2, 3, 4], 3), 9]
    assert engine.turn(back).generated == answer(history, 2)
    assert engine.turn(wants_room).generated == answer(range(14), 2)
    assert engine.counts.recomputed_tokens == 0
    for name in ("long idle", "short idle", "third"):
        engine.end_conversation(name)
    finish(engine)
    check_all_free(engine)


@pytest.mark.parametrize("swaps", [{}, {"swaps": InlineSwaps}])
def test_an_idle_conversation_makes_room_for_one_that_grows(swaps):
    engine = make_engine(**swaps)
    list(engine.stream(engine.submit(range(6), 2, conversation_id="idle")))
    grows = engine.submit(range(50, 56), 6)
    assert list(engine.stream(grows)) == answer(range(50, 56), 6)  # runs short with nothing in flight: no deadlock
    assert [job.request_id for job in jobs_of(engine, OUT)] == [0]


@pytest.mark.parametrize("evict_by", ["swapping", "recomputing"])
@pytest.mark.parametrize("adaptive", [None, AdaptiveSwap()])
def test_levels_that_change_at_every_iteration_do_not_stop_anybody(evict_by, adaptive):
    evictor = Recompute() if evict_by == "recomputing" else None
    engine = make_engine(frequency=1.0, evictor=evictor, adaptive=adaptive)
    checker = InvariantChecker(engine)
    turns = [engine.turn(engine.submit(range(n * 20, n * 20 + 9), 7)) for n in range(6)]
    finish(engine, checker.check)
    for turn in turns:
        check_answers([turn])
    assert engine.counts.drops > 5 if evictor else len(engine.counts.reports) > 5


def test_who_comes_in_makes_a_step_before_it_leaves_again():
    engine = make_engine()
    turn_ids = [engine.submit(range(n, n + 10), 6) for n in (0, 50)]  # each fills the pool
    for _ in range(200):
        for turn_id, request in zip(turn_ids, list(engine.requests), strict=False):
            # whoever is on the device, or on its way from or to it, is worse than the other
            here = request.state not in (RequestState.WAITING, RequestState.SWAPPED)
            if len(engine.requests) == 2:
                engine.set_priority(turn_id, 1 if here else 0)
        if not engine.step():
            engine.wait_for_work()
        if not engine.requests:
            break
    assert engine.turn(0).generated == answer(range(10), 6)
    assert engine.turn(1).generated == answer(range(50, 60), 6)
    assert len(jobs_of(engine, IN)) >= 8  # nearly every token cost a switch, and was made


def test_suspend_holds_a_turn_off_the_device_until_resume():
    engine = make_engine(swaps=InlineSwaps)
    held, other = (engine.submit([n, n + 1, n + 2], 6) for n in (0, 10))
    engine.step()
    engine.suspend(held)
    finish(engine)
    assert len(engine.turn(held).generated) == 1
    assert states(engine) == [RequestState.SWAPPED]
    assert engine.turn(other).ended
    with pytest.raises(DeadlockError, match=r"^turn 0 is suspended: resume it$"):
        next(iter_rest(engine, held))
    engine.resume(held)
    assert list(engine.stream(held)) == answer([0, 1, 2], 6)
    check_all_free(engine)


def iter_rest(engine, turn_id):
    stream = engine.stream(turn_id)
    for _ in engine.turn(turn_id).generated[:]:
        next(stream)
    return stream


@pytest.mark.parametrize("swaps", [{}, {"swaps": InlineSwaps}])
def test_suspending_one_that_fills_the_pool_lets_the_other_in(swaps):
    engine = make_engine(**swaps)
    held = engine.submit(range(12), 4, priority=0)
    engine.step()
    other = engine.submit(range(50, 62), 4, priority=1)
    engine.suspend(held)
    assert list(engine.stream(other)) == answer(range(50, 62), 4)
    engine.resume(held)
    assert list(engine.stream(held)) == answer(range(12), 4)


def test_set_priority_changes_who_is_served():
    engine = make_engine(swaps=InlineSwaps)
    first, second = engine.submit(range(12), 4, priority=0), engine.submit(range(50, 62), 4, priority=1)
    engine.step()
    assert [len(engine.turn(turn_id).generated) for turn_id in (first, second)] == [1, 0]
    engine.set_priority(first, 2)
    engine.step()
    assert [len(engine.turn(turn_id).generated) for turn_id in (first, second)] == [1, 1]
    assert engine.turn(first).generated == answer(range(12), 1)


# Ends


def test_cancel_ends_a_running_turn_and_its_answer_stays_in_the_history():
    engine = make_engine()
    turn_id = engine.submit([1, 2], 5, conversation_id="c")
    engine.step()
    engine.cancel(turn_id)
    engine.cancel(turn_id)
    assert engine.turn(turn_id).ended
    history = [1, 2, *answer([1, 2], 1)]
    assert list(engine.stream(engine.submit([3], 2, conversation_id="c"))) == answer([*history, 3], 2)


def test_a_cancelled_queued_turn_leaves_no_trace():
    engine = make_engine(device_blocks=16)
    first, gone, last = (engine.submit([n], 2, conversation_id="c") for n in (1, 2, 3))
    engine.cancel(gone)
    finish(engine)
    assert engine.turn(gone).generated == []
    check_answers([engine.turn(first), engine.turn(last)])


@pytest.mark.parametrize("direction", [OUT, IN])
@pytest.mark.parametrize("how", ["cancel", "end"])
@pytest.mark.parametrize("then", ["land", "fail"])
def test_a_turn_ends_while_its_copy_is_in_flight(direction, how, then):
    engine = make_engine()
    checker = InvariantChecker(engine)
    first, second = switched_pair(engine)
    step_until_copying(engine, direction)
    engine.cancel(first)
    if how == "end":
        engine.end_conversation("first")
    checker.check()
    getattr(engine.swaps, then)()
    finish(engine, checker.check)
    check_answers([engine.turn(second)])
    if how == "cancel":
        again = engine.submit([7], 2, conversation_id="first")
        finish(engine, checker.check)
        check_answers([engine.turn(first), engine.turn(again)])
        engine.end_conversation("first")
    engine.end_conversation("second")
    finish(engine, checker.check)
    check_all_free(engine)


def test_a_cancelled_turn_that_had_just_come_in_gives_its_room_away():
    engine = make_engine()
    first, second = switched_pair(engine)
    step_until_copying(engine, IN)
    engine.cancel(first)
    third = engine.submit(range(300, 312), 3, priority=3)
    finish(engine)
    assert engine.turn(second).ended
    check_answers([engine.turn(third)])


def test_end_conversation_waits_for_its_turn():
    engine = make_engine()
    turn_id = engine.submit([1, 2], 3, conversation_id="c")
    engine.step()
    engine.end_conversation("c")
    assert not engine.turn(turn_id).ended
    finish(engine)
    assert engine.turn(turn_id).generated == answer([1, 2], 3)
    check_all_free(engine)
    with pytest.raises(KeyError, match=r"conversation 'c' is unknown or has ended"):
        engine.end_conversation("c")
    with pytest.raises(KeyError, match=r"the conversation of turn 0 is unknown or has ended"):
        engine.set_priority(turn_id, 0)
    with pytest.raises(KeyError, match=r"turn 9 is unknown"):
        engine.cancel(9)


# What goes wrong


@pytest.mark.parametrize("direction", [OUT, IN])
def test_a_request_whose_copy_fails_is_recomputed_and_nobody_else(direction):
    engine = make_engine()
    checker = InvariantChecker(engine)
    first, second = switched_pair(engine)
    step_until_copying(engine, direction)
    engine.swaps.fail()
    finish(engine, checker.check)
    assert (engine.counts.failed, engine.counts.drops) == (1, 1)
    recomputed = engine.counts.recomputed_tokens
    assert recomputed == 9
    assert next(entry.start for batch in engine.executor.batches for entry in batch if entry.request_id == 1) == 0
    check_answers([engine.turn(first)])
    check_answers([engine.turn(second)])


def test_a_victim_that_the_host_cannot_take_is_recomputed():
    engine = make_engine(host_blocks=1)
    checker = InvariantChecker(engine)
    first, second = switched_pair(engine)
    finish(engine, checker.check)
    assert engine.counts.drops > 0
    assert engine.counts.reports == []
    check_answers([engine.turn(first)])
    check_answers([engine.turn(second)])


@pytest.mark.parametrize(
    ("tokens", "first"),
    [(range(2**31 - 1, 2**31 + 2), 2**31), (range(3, -2, -1), -1), ((7, -5, 2**31), -5), ([2**40, 1], 2**40)],
)
def test_the_first_token_outside_the_vocabulary_is_named(tokens, first):
    with pytest.raises(ValueError, match=rf"got {first}$"):
        make_engine().submit(tokens, 1)


def test_prompts_that_cannot_change_are_kept_and_others_copied():
    engine = make_engine(device_blocks=16)
    for prompt in (range(3), (1, 2)):
        assert engine.turn(engine.submit(prompt, 1)).prompt is prompt
    mine = [1, 2]
    turn = engine.turn(engine.submit(mine, 1))
    mine.append(3)
    assert turn.prompt == [1, 2]


@pytest.mark.parametrize("token", [-1, 2**31])
def test_a_token_outside_the_vocabulary_is_refused(token):
    engine = make_engine()
    with pytest.raises(ValueError, match=rf"^token ids must be in \[0, 2147483648\), got {token}$"):
        engine.submit([1, token], 2)
    assert engine.num_conversations == 0


def test_an_arrival_in_the_future_is_refused():
    engine = make_engine()
    with pytest.raises(ValueError, match=r"^arrival must not be in the future, got 5 at 0$"):
        engine.submit([1], 2, arrival=5.0)
    assert engine.num_conversations == 0


def test_a_deadlock_names_the_equation_that_fails():
    engine = make_engine()
    engine.kv.device.allocator.allocate("somebody else", 5)
    turn_id = engine.submit(range(9), 2)
    message = (
        r"^deadlock: request 0 \(waiting\) needs 5 blocks, but free 3 \+ clean 0 \+ vacating 0 < 5 "
        r"and nothing below it can leave$"
    )
    with pytest.raises(DeadlockError, match=message):
        list(engine.stream(turn_id))


def test_a_deadlock_of_a_resident_names_what_it_lacks():
    engine = make_engine()
    engine.kv.device.allocator.allocate("somebody else", 2)
    turn_id = engine.submit(range(9), 2, conversation_id="c")
    list(engine.stream(turn_id))
    engine.kv.device.allocator.allocate("somebody else", 1)
    again = engine.submit([1, 2], 2, conversation_id="c")
    with pytest.raises(DeadlockError, match=r"^deadlock: request 0 \(\w+\) needs \d blocks, but free \d \+ clean \d"):
        list(engine.stream(again))


@pytest.mark.parametrize(
    ("tokens", "max_new_tokens", "message"),
    [
        ([], 1, "a turn needs at least 1 new token, got 0"),
        ([1], 0, "max_new_tokens must be positive, got 0"),
        (range(13), 2, "the conversation needs 9 blocks (18 tokens), the device pool has 8: enlarge the pool"),
        (range(20), 8, "the conversation would have 31 tokens, the model has 30 positions: shorten it"),
    ],
)
def test_what_can_never_be_served_is_refused_at_once(tokens, max_new_tokens, message):
    engine = make_engine(max_context=30)
    running = engine.submit([1], 2, conversation_id="c")  # 3 tokens in all
    before = engine.requests and [(request.num_tokens, len(request.queued)) for request in engine.requests]
    with pytest.raises(ValueError) as refused:
        engine.submit(tokens, max_new_tokens, conversation_id="c", priority=3)
    assert str(refused.value) == message
    with pytest.raises(ValueError):
        engine.submit(tokens if message.startswith(("a turn", "max")) else range(50), max_new_tokens)
    assert [(request.num_tokens, len(request.queued)) for request in engine.requests] == before
    assert [request.priority for request in engine.requests] == [None]
    assert list(engine.stream(running)) == answer([1], 2)


def test_a_conversation_may_fill_the_pool_to_the_last_token():
    engine = make_engine()
    turn_id = engine.submit(range(10), 6)
    assert list(engine.stream(turn_id)) == answer(range(10), 6)


# Charges


@pytest.mark.parametrize("evict_by", ["swapping", "recomputing"])
@pytest.mark.parametrize("packer", [PrefillFirst(4), PrefillFirst(), ChunkedPrefill(4), ChunkedPrefill(1)])
def test_recomputed_tokens_are_charged_to_nobody(evict_by, packer):
    evictor = Recompute() if evict_by == "recomputing" else None
    engine = make_engine(frequency=0.5, evictor=evictor, packer=packer)
    turns = []
    for client_id in ("a", "b", "c"):
        for prompt in ([1, 2, 3, 4, 5], [6, 7]):
            turn_id = engine.submit(prompt, 4, client_id=client_id, conversation_id=client_id)
            turns.append((client_id, engine.turn(turn_id)))
    finish(engine)
    accountant = engine.accountant
    assert accountant.prefill_tokens == {"a": 7, "b": 7, "c": 7}
    assert accountant.decode_tokens == {"a": 8, "b": 8, "c": 8}
    computed = sum(entry.num_tokens for batch in engine.executor.batches for entry in batch)
    # each token's KV is computed once but that of a conversation's last token, and all else is recomputed
    assert computed - engine.counts.recomputed_tokens == 3 * (7 + 8 - 1)
    assert (engine.counts.recomputed_tokens > 0) == (evict_by == "recomputing")

"""What the engine makes of prompts in pieces: who gets a token when, what is charged, what may leave half-way."""

from __future__ import annotations

import itertools

import pytest

from fastswitch.sched import ChunkedPrefill, PrefillFirst, RequestState
from tests.engine.doubles import answer
from tests.engine.small_engine import finish, make_engine


def batches(engine):
    """(request id, tokens) of each iteration's batch."""
    return [[(entry.request_id, entry.num_tokens) for entry in batch] for batch in engine.executor.batches]


def decoding(engine, prompt, max_new_tokens, **options):
    """A turn that has its first token."""
    turn = engine.turn(engine.submit(prompt, max_new_tokens, **options))
    while not turn.generated:
        engine.step()
    return turn


def test_an_answer_gets_a_token_in_each_iteration_that_computes_a_piece_of_a_prompt():
    engine = make_engine(packer=ChunkedPrefill(4), device_blocks=32)
    answering = decoding(engine, [1], 8)
    asking = engine.turn(engine.submit(range(10), 2))
    finish(engine)
    # by hand: 3 + 3 + 3 tokens beside a decode; the tenth, alone, is as good as a decode
    a, b = answering.request_id, asking.request_id
    assert batches(engine)[1:6] == [[(a, 1), (b, 3)]] * 3 + [[(a, 1), (b, 1)]] * 2
    assert batches(engine)[6:] == [[(a, 1)]] * 2
    assert asking.token_times[0] == 5.0
    assert answering.token_times == [float(second) for second in range(1, 9)]
    assert answering.generated == answer([1], 8)
    assert asking.generated == answer(range(10), 2)


@pytest.mark.parametrize(("packer", "longest_gap"), [(PrefillFirst(4), 4.0), (ChunkedPrefill(4), 1.0)])
def test_a_long_prompt_makes_answers_wait_only_where_it_comes_first(packer, longest_gap):
    engine = make_engine(packer=packer, device_blocks=32)
    answering = decoding(engine, [1], 8)
    engine.submit(range(12), 2)
    finish(engine)
    times = answering.token_times
    assert max(later - before for before, later in itertools.pairwise(times)) == longest_gap


def test_a_client_is_charged_for_each_piece_when_it_is_computed():
    engine = make_engine(packer=ChunkedPrefill(4), device_blocks=32)
    decoding(engine, [1], 8, client_id="a")
    engine.submit(range(10), 1, client_id="b")
    charged = []
    for _ in range(4):
        engine.step()
        charged.append((engine.accountant.prefill_tokens["b"], engine.accountant.decode_tokens["b"]))
    assert charged == [(3, 0), (6, 0), (9, 0), (10, 1)]


def test_a_prompt_may_be_pushed_out_after_its_first_piece_and_goes_on_behind_it():
    engine = make_engine(packer=ChunkedPrefill(4), device_blocks=8)  # of 2 tokens: not for both
    low = engine.turn(engine.submit(range(10), 2, priority=3))
    (request,) = engine.requests
    engine.step()
    assert (request.state, request.device_valid_len) == (RequestState.RUNNING, 4)
    high = engine.turn(engine.submit(range(50, 60), 2, priority=0))
    engine.step()
    assert request.state is RequestState.SWAPPING_OUT
    finish(engine)
    entries = itertools.chain.from_iterable(engine.executor.batches)
    pieces = [(each.start, each.num_tokens) for each in entries if each.request_id == request.request_id]
    assert pieces == [(0, 4), (4, 4), (8, 2), (10, 1)]
    assert engine.counts.recomputed_tokens == 0
    assert (low.generated, high.generated) == (answer(range(10), 2), answer(range(50, 60), 2))


def test_who_came_in_and_got_no_piece_may_not_be_pushed_out():
    """The decode takes the whole budget, so the newcomer has made no step: it stays, be the next one of better rank."""
    engine = make_engine(packer=ChunkedPrefill(1), device_blocks=8)
    first = decoding(engine, [1], 5, priority=0)
    engine.submit(range(8), 1, priority=3)
    engine.step()
    newcomer = list(engine.requests)[1]
    assert (newcomer.state, newcomer.protected, newcomer.device_valid_len) == (RequestState.RUNNING, True, 0)
    best = engine.turn(engine.submit(range(60, 70), 1, priority=0))
    while not first.ended:
        engine.step()
        assert newcomer.state is RequestState.RUNNING
    while newcomer.device_valid_len == 0:
        engine.step()
        assert newcomer.state is RequestState.RUNNING
    finish(engine)
    assert engine.counts.reports, "it was pushed out when it had a piece"
    assert best.generated == answer(range(60, 70), 1)

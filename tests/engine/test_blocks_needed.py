"""Rule 1's other half: what a request asks for is room for everything that its next step writes."""

from __future__ import annotations

from fastswitch.engine import InlineSwaps
from fastswitch.sched import PrefillFirst, RequestState
from tests.engine.small_engine import finish, make_engine


def only(engine):
    (request,) = engine.requests
    return request


def test_one_that_waits_needs_its_whole_prompt_be_it_that_the_budget_takes_less():
    engine = make_engine(packer=PrefillFirst(2))
    engine.submit(range(9), 3, conversation_id="c")
    assert (only(engine).state, only(engine).blocks_needed) == (RequestState.WAITING, 5)
    engine.step()
    assert only(engine).device_blocks == 5
    assert only(engine).blocks_needed == 0


def test_one_that_runs_needs_room_for_its_newest_token_too():
    """Blocks of 2: the prompt of 3 and the first token fill two, the second token needs a third."""
    engine = make_engine()
    engine.submit(range(3), 6)
    needs = []
    for _ in range(5):
        engine.step()
        needs.append(only(engine).num_tokens - 2 * only(engine).device_blocks)
        assert only(engine).blocks_needed == int(needs[-1] > 0)
    assert needs == [0, 1, 0, 1, 0]


def test_one_that_returns_needs_what_it_has_lost_and_its_newest_token():
    engine = make_engine(swaps=InlineSwaps)
    held = engine.submit(range(8), 6)
    engine.step()
    engine.suspend(held)
    engine.step()
    request = only(engine)
    assert request.state is RequestState.SWAPPED
    assert request.blocks_needed + request.device_blocks == 5, "8 tokens and the one that has no KV yet"
    engine.resume(held)
    finish(engine)


def test_between_two_turns_it_needs_nothing_and_a_turn_that_follows_its_new_tokens_only():
    engine = make_engine(swaps=InlineSwaps)
    engine.submit(range(4), 2, conversation_id="c")
    finish(engine)
    request = only(engine)
    assert (request.state, request.blocks_needed) == (RequestState.IDLE, 0)
    have = request.device_blocks
    engine.submit(range(10, 15), 2, conversation_id="c")
    assert request.blocks_needed == 6 - have, "11 tokens"

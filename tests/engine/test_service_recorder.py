"""What is written down of who was served and who waited, on an engine whose iterations take a second."""

from __future__ import annotations

import numpy as np
import pytest

from fastswitch.sched import Recompute
from tests.engine.small_engine import check_answers, finish, make_engine


def serve(engine, *turns):
    """Submit (client, prompt length, tokens to generate), serve all, and give back the record and the turns."""
    recorder = engine.record_service()
    submitted = [
        engine.turn(engine.submit(list(range(prompt)), new, client_id=client, priority=0))
        for client, prompt, new in turns
    ]
    finish(engine)
    return recorder.record(), submitted


def test_a_run_that_is_worked_by_hand():
    # 8 tokens of room and 6 for a prompt: one after the other. a's first gets 6 + 2, then 2; so do a's second, and b's
    record, _ = serve(make_engine(device_blocks=4, block_size=2), ("a", 6, 2), ("a", 6, 2), ("b", 6, 2))
    assert record.client_ids == ("a", "b")
    assert record.times_s.tolist() == [1, 2, 3, 4, 5, 6]
    assert record.service().tolist() == [[8, 0], [2, 0]] * 2 + [[0, 8], [0, 2]]
    # a's second turn is in the queue while the first is served, b's while both are
    assert record.backlogged().tolist() == [[True, True]] * 2 + [[False, True]] * 2 + [[False, False]] * 2
    assert record.tokens().tolist() == [[12, 4], [6, 2]]
    times_s, service = record.curve(1)
    assert (times_s.tolist(), service.tolist()) == ([5, 6], [8, 10])


def test_an_iteration_is_charged_as_one():
    record, _ = serve(make_engine(device_blocks=8, block_size=2), ("a", 3, 2), ("b", 2, 2), ("a", 4, 1))
    assert record.times_s.tolist() == [1, 2]
    assert record.service().tolist() == [[3 + 2 + 4 + 2, 2 + 2], [2, 2]]
    assert not record.backlogged().any()


def test_a_turn_that_is_cancelled_in_the_queue_waits_no_more():
    engine = make_engine(device_blocks=4, block_size=2)
    recorder = engine.record_service()
    engine.submit([1, 2, 3, 4], 4, client_id="a")
    engine.step()
    waiting = engine.submit([1, 2, 3, 4], 4, client_id="b")
    engine.step()
    engine.cancel(waiting)
    finish(engine)
    record = recorder.record()
    assert record.client_ids == ("a", "b")
    assert record.backlogged().tolist() == [[False, False], [False, True], [False, False], [False, False]]


def test_a_turn_that_is_cancelled_when_it_was_served_leaves_the_queue_once():
    engine = make_engine(device_blocks=4, block_size=2)
    recorder = engine.record_service()
    served = engine.submit([1, 2, 3, 4], 4, client_id="a")
    engine.step()
    for _ in range(2):
        engine.submit([1, 2, 3, 4, 5, 6], 2, client_id="a")
    engine.cancel(served)
    finish(engine)
    # two of the next, while the last one waits, and two of the last
    assert recorder.record().backlogged()[:, 0].tolist() == [False, True, True, False, False]


def test_turns_that_follow_in_an_iteration_wait_from_the_next_one_on():
    engine = make_engine(device_blocks=8, block_size=2)
    recorder = engine.record_service()
    engine.submit([1, 2], 2, client_id="a", conversation_id=0)
    engine.submit([3, 4], 2, client_id="a", conversation_id=0)  # arrives when the first has ended
    engine.submit([1, 2, 3], 3, client_id="b")  # and is served after it in that iteration
    finish(engine)
    record = recorder.record()
    assert record.service().tolist() == [[4, 5], [2, 2], [4, 0], [2, 2]]
    assert not record.backlogged().any()


@pytest.mark.parametrize("evictor", [None, Recompute()])
def test_what_is_computed_again_is_nobodys_service(evictor):
    engine = make_engine(device_blocks=8, block_size=2, frequency=0.5, evictor=evictor)
    turns = [("a", 3, 8), ("b", 5, 7), ("c", 1, 9), ("a", 6, 6), ("b", 2, 12)]
    record, submitted = serve(engine, *turns)
    for turn in submitted:
        check_answers([turn])
    assert record.tokens().tolist() == [[9, 14], [7, 19], [1, 9]]
    assert record.service().sum(axis=0).tolist() == [9 + 28, 7 + 38, 1 + 18]
    counts, switches = engine.counts, {}
    for client_id in "abc":
        for name, number in counts.of_client(client_id).items():
            switches[name] = switches.get(name, 0) + number
    of_run = counts.as_json(0.0)
    assert switches == {name: of_run[name] for name in switches}
    if evictor is None:
        assert min(switches["swap_outs"], switches["swap_ins"]) > 0
    else:
        assert min(switches["drops"], switches["recomputed_tokens"]) > 0


def test_the_accountant_whose_place_it_takes_is_told_everything():
    class Told:
        def __init__(self):
            self.of = []

        def arrived(self, request):
            self.of.append(("arrived", request.client_id))

        def admitted(self, request, num_prompt_tokens):
            self.of.append(("admitted", request.client_id, num_prompt_tokens))

        def ended(self, request):
            self.of.append(("ended", request.client_id, request.admitted))

        def charge(self, request, num_prefill_tokens, num_decode_tokens):
            self.of.append(("charge", request.client_id, num_prefill_tokens, num_decode_tokens))

    def told(record):
        engine, accountant = make_engine(device_blocks=4, block_size=2), Told()
        engine._scheduler.accountant = engine._conversations.accountant = accountant
        if record:
            engine.record_service()
        engine.submit([1, 2, 3], 2, client_id="a")
        engine.submit([1, 2, 3, 4, 5], 1, client_id="b")
        engine.cancel(engine.submit([1], 1, client_id="c"))
        finish(engine)
        return accountant.of

    assert told(True) == told(False)
    assert {entry[0] for entry in told(True)} == {"arrived", "admitted", "ended", "charge"}


def test_it_is_recorded_once_and_from_the_start():
    engine = make_engine()
    engine.record_service()
    with pytest.raises(RuntimeError, match="^service must be recorded once, before the first turn$"):
        engine.record_service()
    engine = make_engine()
    engine.submit([1], 1)
    with pytest.raises(RuntimeError, match="before the first turn"):
        engine.record_service()


def test_a_run_without_turns_has_an_empty_record():
    record = make_engine().record_service().record()
    assert record.client_ids == ()
    assert record.service().shape == record.backlogged().shape == (0, 0)
    assert record.tokens().shape == (0, 2)
    assert np.array_equal(record.amounts, [])

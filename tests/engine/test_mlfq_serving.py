"""MLFQ and aging in the engine: right tokens, the quanta of what was computed, and short answers before long ones."""

from __future__ import annotations

import json
import random

import pytest

from fastswitch.engine import InlineSwaps
from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.sched import MLFQ, Aging, PrefillFirst, Recompute, SwapOut, TokenAccountant
from tests.engine.simulator.small_bed import A_SECOND, FREE_LINK, Served, make_bed, make_plan, make_workload
from tests.engine.small_engine import check_answers, finish, make_engine
from tests.engine.test_random_walks import walk


def make(*, aging=None, num_queues=4, starving_iterations=1000, **options):
    """Quanta of 1 s, 2 s, 4 s, without end; a prompt takes a second a token."""
    mlfq = MLFQ(float, 1.0, num_queues=num_queues, starving_iterations=starving_iterations)
    ranker = mlfq if aging is None else Aging(mlfq, max_wait=aging)
    engine = make_engine(ranker=ranker, accountant=ranker, **options)
    engine.mlfq = mlfq
    return engine


def queue_of(engine, turn_id):
    return next(r.priority for r in engine.requests if r.request_id == engine.turn(turn_id).request_id)


def used_s(engine, turn_id):
    return engine.mlfq._jobs[engine.turn(turn_id).request_id].used_s


@pytest.mark.parametrize("aging", [None, 3])
@pytest.mark.parametrize("copies_ahead", [False, True])
@pytest.mark.parametrize("evictor", [SwapOut, Recompute])
@pytest.mark.parametrize("budget", [3, 8192])
def test_tokens_are_right_whoever_is_pushed_out(evictor, budget, copies_ahead, aging):
    engine = make(
        evictor=evictor(), packer=PrefillFirst(budget), copies_ahead=copies_ahead, aging=aging, starving_iterations=9
    )
    checker = InvariantChecker(engine)
    turns = {}
    for round_ in range(3):
        for conversation in range(5):
            prompt = [100 * conversation + 10 * round_ + i for i in range(1 + (conversation + round_) % 3)]
            turn_id = engine.submit(prompt, 1 + conversation % 3, conversation_id=conversation)
            turns.setdefault(conversation, []).append(engine.turn(turn_id))
            engine.step()
            checker.check()
    for conversation in turns:
        engine.end_conversation(conversation)
    finish(engine, checker.check)
    for of_one in turns.values():
        check_answers(of_one)
        assert all(len(turn.generated) == turn.max_new_tokens for turn in of_one)
    check_all_free(engine)
    assert not engine.mlfq._jobs, "nothing is kept of what is over"


def test_a_short_turn_pushes_out_a_long_one_that_has_used_up_its_quanta():
    engine = make(device_blocks=6, swaps=InlineSwaps)
    long = engine.submit([1], 10)
    for _ in range(6):
        engine.step()
    assert queue_of(engine, long) == 2
    assert len(engine.turn(long).generated) == 6
    short = engine.submit(range(50, 58), 2, priority=0)
    engine.step()
    assert (len(engine.turn(long).generated), len(engine.turn(short).generated)) == (6, 1)
    finish(engine)
    for turn_id in (long, short):
        check_answers([engine.turn(turn_id)])
    assert engine.turn(short).token_times[-1] < engine.turn(long).token_times[6]


def test_set_priority_moves_a_turn_to_that_queue():
    engine = make()
    turn_id = engine.submit([1, 2, 3], 9)
    engine.step()
    assert (queue_of(engine, turn_id), used_s(engine, turn_id)) == (2, 3.0)
    engine.set_priority(turn_id, 1)
    engine.step()
    assert (queue_of(engine, turn_id), used_s(engine, turn_id)) == (1, 1.0), "a whole quantum of 2 s, 1 used"
    engine.step()
    engine.step()
    assert (queue_of(engine, turn_id), used_s(engine, turn_id)) == (2, 1.0), "and the rules go on"


def test_what_is_computed_again_takes_nothing_from_the_quantum():
    """The same turn beside one that pushes it out and has it recomputed, and alone."""
    seen = []
    for disturbed in (False, True):
        engine = make(device_blocks=6, evictor=Recompute())
        turn_id = engine.submit([1, 2, 3], 6)
        engine.step()
        engine.step()
        if disturbed:
            engine.submit(range(50, 59), 1, priority=0)
        while len(engine.turn(turn_id).generated) < 5:
            engine.step()
        seen.append((queue_of(engine, turn_id), used_s(engine, turn_id)))
        assert (engine.counts.recomputed_tokens > 0) == disturbed
    assert seen == [(3, 3.0)] * 2, "3 + 1 of 4 s in the third queue, then 3 s more"


def test_a_cancelled_turn_and_the_next_one():
    engine = make()
    first = engine.submit([1, 2, 3, 4, 5], 9, conversation_id="c")
    engine.step()
    assert queue_of(engine, first) == 3
    engine.cancel(first)
    assert not engine.mlfq._jobs
    second = engine.submit([6], 3, conversation_id="c")
    engine.step()
    assert queue_of(engine, second) == 0
    engine.step()
    assert queue_of(engine, second) == 1
    finish(engine)
    check_answers([engine.turn(first), engine.turn(second)])


class CountingMLFQ(MLFQ):
    """Counts tokens by client, too, as the walk wants to know them."""

    def __init__(self):
        super().__init__(float, 1.0, num_queues=4, starving_iterations=12)
        counts = TokenAccountant()
        self.count, self.prefill_tokens, self.decode_tokens = counts.charge, counts.prefill_tokens, counts.decode_tokens

    def charge(self, request, num_prefill_tokens, num_decode_tokens):
        super().charge(request, num_prefill_tokens, num_decode_tokens)
        self.count(request, num_prefill_tokens, num_decode_tokens)


@pytest.mark.parametrize("aging", [None, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_walk_of_anything_that_a_caller_can_do(seed, aging):
    draws = random.Random(seed)
    mlfq = CountingMLFQ()
    ranker = mlfq if aging is None else Aging(mlfq, max_wait=aging)
    engine = make_engine(
        host_blocks=draws.choice([6, 64]), copies_ahead=bool(seed % 2), ranker=ranker, accountant=ranker
    )
    engine.accountant = mlfq

    def end_a_copy():
        if jobs := engine.swaps.jobs:
            end = engine.swaps.fail if draws.random() < 0.25 else engine.swaps.land
            end(draws.randrange(len(jobs)))

    walk(engine, draws, *[end_a_copy] * 8)
    assert not mlfq._jobs
    if aging is not None:
        assert not ranker._aged


LONG, SHORT = (8, 40), (4, 2)


def serve(policy, **options):
    """Three long answers fill the pool; a short one comes 12 s later. The run."""
    workload = make_workload([LONG], [LONG], [LONG], [SHORT])
    bed = make_bed(A_SECOND, FREE_LINK, device_blocks=12, policy=policy, check=True, **options)
    return Served(bed, "fastswitch", workload, make_plan(workload, [0.0, 0.0, 0.0, 12.0]))


def test_a_short_turn_behind_long_ones_starts_earlier_than_first_come_first_served():
    fcfs, mlfq = serve("fcfs"), serve("mlfq")
    ttft_s = {name: served.token_times[3, 0][0] - 12.0 for name, served in (("fcfs", fcfs), ("mlfq", mlfq))}
    assert ttft_s["mlfq"] < ttft_s["fcfs"]
    assert ttft_s["mlfq"] == 1.0, "an iteration: switches cost nothing here"
    assert mlfq.switches["swap_outs"] + mlfq.switches["clean_evictions"] > 0
    assert serve("mlfq").token_times == mlfq.token_times, "the same each time"
    for served in (fcfs, mlfq):
        assert [len(served.token_times[i, 0]) for i in range(4)] == [40, 40, 40, 2]


def test_the_command_line_ranks_by_it_and_says_so(run, tmp_path):
    out = tmp_path / "out.json"
    common = ["--conversations", "6", "--scale", "0.3", "--rate", "1000", "--device-tokens", "1200"]
    results = []
    for more in ([], ["--aging", "50"]):
        chosen = ["--runs", "fastswitch", "--policy", "mlfq", *more, "--json", out]
        status, _, err = run("simulate", "--setup", "llama8b-a10", *common, *chosen)
        assert (status, err) == (0, "")
        results.append(json.loads(out.read_text()))
    assert [result["policy"].get("aging") for result in results] == [None, 50]
    for result in results:
        assert result["policy"]["policy"] == "mlfq"
        assert not {"frequency", "priority", "profile", "recorded"} & set(result["policy"])
        assert result["runs"][0]["switches"]["swap_ins"] > 0

"""No live-lock, no thrash: who comes in computes something before it leaves, and who does little more is named."""

from __future__ import annotations

import pytest

from fastswitch.engine.report import _thrash
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.switch_counts import ShortStays
from fastswitch.memory import SwapDirection
from fastswitch.sched import RequestState
from tests.engine.simulator.small_bed import A_SECOND, EmulatedLink, Served, make_bed, make_plan, make_workload
from tests.engine.small_engine import check_answers, finish, make_engine

TURNS = [[(6, 5)], [(7, 4)], [(5, 6)], [(8, 3)]]
FIVE_ITERATIONS = EmulatedLink(call_us=5e6, gbps=float("inf"))  # a copy call takes as long as five


def state_of(engine, turn_id):
    request_id = engine.turn(turn_id).request_id
    return next(request.state for request in engine.requests if request.request_id == request_id)


@pytest.mark.parametrize("run", [name for name, spec in SIMULATED_RUNS.items() if spec.way not in (None, "free")])
def test_levels_that_change_faster_than_a_copy_completes_stop_nobody(run):
    """The known live-lock: at each iteration other requests deserve the device, and moving one takes five.

    Whoever was on its way in would be sent out before it has computed anything, for ever.
    """
    workload = make_workload(*TURNS)
    total = workload.output_tokens

    def bounded(engine):
        # one token an iteration at least, but for those in which everybody is on the way
        assert engine.executed_iterations <= total
        assert len(engine.counts.reports) <= 4 * total

    bed = make_bed(A_SECOND, FIVE_ITERATIONS, device_blocks=4, frequency=1.0, check=True)
    served = Served(bed, run, workload, make_plan(workload, [0.0] * len(TURNS)), bounded)
    assert served.switches["swap_ins"] > 3
    for conversation, lengths in enumerate(TURNS):
        assert len(served.token_times[conversation, 0]) == lengths[0][1]


def test_who_comes_in_computes_before_it_leaves_however_the_levels_change():
    """The live-lock to the letter: whoever is on the device, or on its way there, deserves it least."""
    engine = make_engine(device_blocks=6)
    turns = [engine.submit(range(1, 7), 6), engine.submit(range(11, 17), 6)]
    for _ in range(100):
        for turn_id in turns:
            if not engine.turn(turn_id).ended:
                outside = state_of(engine, turn_id) in (RequestState.SWAPPED, RequestState.WAITING)
                engine.set_priority(turn_id, 0 if outside else 3)
        if not engine.step() and engine.num_in_flight:
            engine.wait_for_work()
    assert all(engine.turn(turn_id).ended for turn_id in turns)
    for turn_id in turns:
        check_answers([engine.turn(turn_id)])


def test_who_is_pushed_out_at_once_again_and_again_is_named():
    """Two requests that fit one at a time, and levels that change sides as soon as one has made its token."""
    engine = make_engine(device_blocks=6)
    first, second = engine.submit(range(1, 7), 6, conversation_id="a"), engine.submit(range(11, 17), 6)
    for _ in range(60):
        for turn_id, other in ((first, second), (second, first)):
            if not (engine.turn(first).ended or engine.turn(second).ended):
                engine.set_priority(turn_id, 0)
                engine.set_priority(other, 1)
                made = len(engine.turn(turn_id).generated)
                while len(engine.turn(turn_id).generated) == made:
                    if not engine.step():
                        engine.wait_for_work()
    engine.end_conversation("a")
    finish(engine)
    check_answers([engine.turn(first)])
    check_answers([engine.turn(second)])
    thrash = engine.counts.as_json(0.0)["thrash"]
    assert thrash["short_stays"] >= 6
    assert thrash["most_in_a_row"] >= 4
    assert thrash["conversations_3_in_a_row"] == [1, "a"]  # by the request's id where no conversation was named
    run = {"name": "fastswitch", "switches": {"thrash": thrash}}
    line = _thrash(run, {"policy": "priority", "frequency": 0.5})
    assert line is not None
    assert line.startswith("run fastswitch thrashed: conversations 1, a were pushed out up to ")
    assert line.endswith("(lower --frequency, raise --min-stay or --device-tokens)")
    line = _thrash(run, {"policy": "mlfq"})
    assert line is not None
    assert line.endswith("(raise --min-stay or --device-tokens)"), "--frequency is refused with other policies"


def test_a_longer_stay_ends_the_row():
    stays = ShortStays()
    for in_a_row in (1, 2, 1, 2):
        stays.enter("a", in_a_row)
    assert stays.as_json() == {"short_stays": 4, "most_in_a_row": 2, "conversations_3_in_a_row": []}
    stays.enter("a", 3)
    assert stays.as_json() == {"short_stays": 5, "most_in_a_row": 3, "conversations_3_in_a_row": ["a"]}


@pytest.mark.parametrize(("max_switches", "leave_at_once"), [(64, 8), (5, 5), (1, 1)])
def test_no_more_than_the_bound_leave_and_come_in_an_iteration(max_switches, leave_at_once):
    """Eight that fill the device are pushed out by eight others."""
    engine = make_engine(device_blocks=16, max_switches=max_switches)
    low = [engine.submit(range(10 * i + 1, 10 * i + 4), 5, priority=3) for i in range(8)]
    engine.step()
    high = [engine.submit(range(10 * i + 101, 10 * i + 104), 2, priority=0) for i in range(8)]
    engine.step()
    assert [job.direction for job in engine.swaps.jobs] == [SwapDirection.SWAP_OUT] * leave_at_once
    finish(engine)
    for turn_id in (*low, *high):
        check_answers([engine.turn(turn_id)])


def test_max_switches_must_be_positive():
    with pytest.raises(ValueError, match=r"^max_switches must be positive, got 0$"):
        make_engine(max_switches=0)

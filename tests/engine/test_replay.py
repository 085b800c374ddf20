"""A timed workload on a clock that the test owns: who arrives when, and which time counts."""

from __future__ import annotations

import pytest

from fastswitch.engine import InlineSwaps
from fastswitch.engine.checks import check_all_free
from fastswitch.engine.replay import Replay
from fastswitch.engine.workloads import (
    ArrivalPlan,
    Conversation,
    ConversationTiming,
    Turn,
    TurnTiming,
    Workload,
    plan_arrivals,
)
from tests.engine.doubles import VOCABULARY, FakeClock
from tests.engine.small_engine import check_answers, make_engine


def make_workload(*conversations):
    """Conversations given as tuples of (input, output) lengths."""
    return Workload(
        "made",
        0,
        tuple(
            Conversation(index, tuple(Turn(*lengths) for lengths in turns)) for index, turns in enumerate(conversations)
        ),
    )


def make_plan(*conversations):
    """Timings given as (start, wait, wait, ...); a wait is a TurnTiming."""
    return ArrivalPlan(
        tuple(ConversationTiming(start, (TurnTiming(), *waits)) for start, *waits in conversations), 1.0, None
    )


def replay_on(engine, workload, plan, on_step=lambda _: None):
    steps = iter(range(1_000))

    def bounded(turns_ended):
        on_step(turns_ended)
        assert next(steps, None) is not None, "the replay does not come to an end"

    replay = Replay(engine, workload, plan, lambda i, turn: workload.prompt_tokens(i, turn, VOCABULARY), bounded)
    replay.run()
    return replay


def test_turns_arrive_when_planned_and_idle_time_does_not_count():
    engine = make_engine(device_blocks=32)  # an iteration takes a second
    workload = make_workload([(2, 3), (1, 2), (1, 1)], [(4, 2)])
    plan = make_plan((0.0, TurnTiming(think_s=10.0), TurnTiming(gap_s=4.0)), (100.5,))
    replay = replay_on(engine, workload, plan)
    times = {key: (turn.arrival, turn.token_times) for key, turn in replay.turns.items()}
    assert times == {
        (0, 0): (0.0, [1.0, 2.0, 3.0]),
        (0, 1): (13.0, [14.0, 15.0]),  # 10 s after the last token
        (0, 2): (17.0, [18.0]),  # 4 s after the arrival before it
        (1, 0): (100.5, [101.5, 102.5]),
    }
    assert engine.clock.skipped_s == pytest.approx(10.0 + 2.0 + 82.5)
    assert replay.seconds == pytest.approx(8.0)
    check_answers([replay.turns[0, turn] for turn in range(3)])
    assert engine.num_conversations == 0
    check_all_free(engine)


def test_a_gap_never_makes_a_turn_arrive_before_the_one_before_has_ended():
    engine = make_engine(device_blocks=32)
    replay = replay_on(engine, make_workload([(2, 5), (1, 1)]), make_plan((0.0, TurnTiming(gap_s=1.0))))
    assert replay.turns[0, 1].arrival == replay.turns[0, 0].token_times[-1] == 5.0


def test_a_turn_that_arrives_during_an_iteration_arrived_when_it_did():
    engine = make_engine(device_blocks=32)
    replay = replay_on(engine, make_workload([(2, 3)], [(2, 1)]), make_plan((0.0,), (1.25,)))
    assert replay.turns[1, 0].arrival == 1.25
    assert replay.turns[1, 0].token_times == [3.0]
    assert engine.clock.skipped_s == 0.0


def test_a_replay_counts_from_its_own_start():
    engine = make_engine(device_blocks=32)
    engine.clock.seconds = 1000.1
    engine.clock.skipped_s = 500.0
    workload, plan = make_workload([(2, 1)], [(2, 1)]), make_plan((0.0,), (0.7 + 5,))
    replay = replay_on(engine, workload, plan)
    assert replay.turns[1, 0].arrival == 1000.1 + (0.7 + 5)
    assert replay.seconds == pytest.approx(2.0)


@pytest.mark.parametrize("start", [0.1 + 0.2, 1 / 3, 1e-9, 12345.678901])
@pytest.mark.parametrize("now", [0.0, 0.1, 1e6 + 1 / 3])
def test_no_rounding_keeps_the_clock_from_reaching_an_arrival(start, now):
    engine = make_engine()
    engine.clock.seconds = now
    replay = replay_on(engine, make_workload([(1, 1)], [(1, 1)]), make_plan((0.0,), (start + 2.0,)))
    assert all(turn.ended for turn in replay.turns.values())


def test_on_step_is_told_of_turns_that_ended():
    ended = []
    engine = make_engine(device_blocks=32)
    replay_on(engine, make_workload([(2, 2), (1, 1)]), make_plan((0.0, TurnTiming(think_s=0.0))), on_step=ended.append)
    assert ended[0] == 0
    assert ended[-1] == 2
    assert ended == sorted(ended)


@pytest.mark.parametrize("swaps", [{}, {"swaps": InlineSwaps}])
def test_a_workload_that_does_not_fit_at_once_is_served_to_its_end(swaps):
    small = make_workload(*[[(1 + index % 5, 6), (3, 1 + index), (2, 4)] for index in range(6)])
    engine = make_engine(device_blocks=13, frequency=1.0, clock=FakeClock(), **swaps)
    plan = plan_arrivals(small, work_s=30.0)
    replay = engine.run(small, plan)
    assert len(replay.turns) == small.num_turns
    for conversation in small.conversations:
        check_answers([replay.turns[conversation.index, turn] for turn in range(len(conversation.turns))])
        prompts = [replay.turns[conversation.index, turn].prompt for turn in range(len(conversation.turns))]
        assert [len(prompt) for prompt in prompts] == [turn.input_tokens for turn in conversation.turns]
    assert engine.counts.reports
    check_all_free(engine)


def test_without_a_plan_recorded_times_are_kept_and_others_are_the_papers():
    engine = make_engine(device_blocks=32, clock=FakeClock())
    replay = engine.run(make_workload(*[[(2, 2), (1, 1)]] * 8))
    first = sorted(turn.arrival for (_, index), turn in replay.turns.items() if index == 0)
    assert first[0] == 0.0
    assert 2.0 < first[-1] < 20.0, "eight conversations, one a second on average"
    assert all(turn.ended for turn in replay.turns.values())


def test_the_makespan_ends_with_the_last_turn():
    clock = FakeClock()
    engine = make_engine(device_blocks=32, clock=clock)
    replay = engine.run(make_workload([(2, 2)], [(3, 1)]))
    seconds = replay.seconds
    clock.sleep(100.0)
    assert replay.seconds == seconds > 0

"""More is asked for than can be served."""

import numpy as np
import pytest

from fastswitch.engine.reproduce.saturation import Offered, is_saturated, offered_tokens
from fastswitch.engine.workloads import Conversation, Turn, Workload, plan_as_recorded, synthetic_workload
from fastswitch.engine.workloads.arrivals import ArrivalPlan, ConversationTiming, TurnTiming


def backlog(seconds, tokens_per_s):
    return {"seconds": seconds, "tokens_per_s": tokens_per_s}


@pytest.mark.parametrize(
    ("seen", "offered", "saturated"),
    [
        (backlog(0, None), Offered(500, 100), False),  # nobody ever waited
        (backlog(90, 400), Offered(500, 100), True),
        (backlog(90, 600), Offered(500, 100), False),  # it catches up
        (backlog(40, 400), Offered(500, 100), False),  # a burst
        (backlog(40, 400), None, True),  # all were there at once
    ],
)
def test_a_run_is_saturated(seen, offered, saturated):
    assert is_saturated(seen, offered) is saturated


def test_twice_the_rate_asks_for_twice_as_much_where_nobody_thinks():
    workload = synthetic_workload(conversations=400, min_turns=3)
    slow, quick = (offered_tokens(workload, plan_as_recorded(workload, rate=r, think_s=0.0, seed=0)) for r in (1, 2))
    mean = workload.output_tokens / len(workload)
    assert slow.per_s == pytest.approx(mean, rel=0.15)
    assert quick.per_s == pytest.approx(2 * slow.per_s)
    assert slow.span_s == pytest.approx(2 * quick.span_s)


def test_a_slow_start_and_a_late_end_are_left_out():
    starts = np.cumsum([0.0, 100.0, *[1.0] * 47, 100.0]).tolist()
    workload = Workload("made up", 0, tuple(Conversation(i, (Turn(10, 10),)) for i in range(len(starts))))
    plan = ArrivalPlan(tuple(ConversationTiming(start_s, (TurnTiming(),)) for start_s in starts), None, None)
    assert offered_tokens(workload, plan).per_s == pytest.approx(10, rel=0.05)


def test_thinking_spreads_what_is_asked_for():
    workload = synthetic_workload(conversations=50, min_turns=3)
    plans = [plan_as_recorded(workload, rate=10, think_s=s, seed=0) for s in (0.0, 100.0)]
    hasty, thoughtful = (offered_tokens(workload, plan).per_s for plan in plans)
    assert thoughtful < hasty / 10


def test_all_at_once_has_no_rate():
    workload = synthetic_workload(conversations=1, min_turns=3)
    assert offered_tokens(workload, plan_as_recorded(workload, rate=1, think_s=0.0, seed=0)) is None

"""When somebody waits for room, and what is served meanwhile."""

import pytest

from fastswitch.engine.backlog import Backlog
from fastswitch.engine.replay import Replay
from fastswitch.engine.request import Turn
from fastswitch.engine.runs import SIMULATED_RUNS
from tests.engine.simulator.small_bed import make_bed, make_plan, make_workload


class Watched:
    """An engine whose clock and queue a test sets."""

    def __init__(self):
        self.clock, self.leaves_waiting, self.time = self, False, 0.0

    def now(self):
        return self.time


def turn(*times):
    made = Turn.__new__(Turn)
    made.token_times = list(times)
    return made


def test_tokens_count_from_behind_the_start_to_the_end_of_each_wait():
    engine = Watched()
    backlog = Backlog(engine)
    for time, waiting in ((1.0, False), (2.0, True), (3.0, True), (3.0, True), (5.0, False), (6.0, True)):
        engine.time, engine.leaves_waiting = time, waiting
        backlog.sample()
    turns = [turn(1.0, 1.5, 2.0), turn(3.0, 4.0, 6.0)]
    assert backlog.figures(turns) == {"seconds": 3.0, "tokens_per_s": pytest.approx(4 / 3)}  # at 1.5, 2, 3 and 6


def test_an_engine_with_room_has_none():
    engine = Watched()
    backlog = Backlog(engine)
    engine.time = 4.0
    backlog.sample()
    assert backlog.figures([turn(1.0)]) == {"seconds": 0, "tokens_per_s": None}


def test_who_finds_no_room_is_waited_for_by_nobody_else():
    # a token a second; three of five tokens each, in a pool that holds one: two wait, then one, then nobody
    workload = make_workload([(3, 5)], [(3, 5)], [(3, 5)])
    bed = make_bed(device_blocks=1, block_size=8, policy="fcfs")
    with bed.engine(SIMULATED_RUNS["free_switch"]) as engine:
        backlog = Backlog(engine)
        replay = Replay(
            engine, workload, make_plan(workload, [0, 0, 0]), lambda c, t: [0, 0, 0], lambda _: backlog.sample()
        )
        replay.run()
    assert backlog.figures(replay.turns.values()) == {"seconds": 10.0, "tokens_per_s": 1.0}

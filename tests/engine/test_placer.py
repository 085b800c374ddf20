"""When the scheduler is asked again, and over whom: steps in which nothing changed ask for nothing."""

from __future__ import annotations

import pytest

from fastswitch.engine.checks import check_engine
from tests.engine.small_engine import finish, make_engine


class Counting:
    """A scheduler that counts how often it is asked; everything else is the real one's."""

    def __init__(self, scheduler):
        self._scheduler = scheduler
        self.ranked = self.placed = 0

    def __getattr__(self, name):
        return getattr(self._scheduler, name)

    def rank(self, requests):
        self.ranked += 1
        return self._scheduler.rank(requests)

    def place_ranked(self, *args):
        self.placed += 1
        return self._scheduler.place_ranked(*args)

    def asked(self):
        asked, self.ranked, self.placed = (self.ranked, self.placed), 0, 0
        return asked


@pytest.fixture
def crowd():
    """Two residents that fill the device, four who wait behind them."""
    engine = make_engine(device_blocks=8, block_size=4)
    engine.turns = [engine.submit(range(12), 4, priority=0) for _ in range(2)]
    engine.turns += [engine.submit(range(20), 4, priority=1) for _ in range(4)]
    engine.counting = engine._loop._placer._scheduler = Counting(engine._loop._placer._scheduler)
    engine.step()
    engine.step()
    engine.counting.asked()
    return engine


def test_who_waits_costs_nothing_while_nothing_changes(crowd):
    before = [request.num_tokens for request in crowd.requests]
    assert crowd.step()
    assert crowd.counting.asked() == (0, 0)
    assert [request.num_tokens for request in crowd.requests] == [before[0] + 1, before[1] + 1, *before[2:]]


def test_nobody_is_ranked_anew_because_somebody_grows(crowd):
    asked = []
    while crowd.step() and crowd.num_conversations == 6:
        asked.append(crowd.counting.asked())
    assert not any(ranked for ranked, _ in asked)


@pytest.mark.parametrize("act", ["set_priority", "suspend", "cancel", "submit"])
def test_what_a_caller_does_ranks_anew(crowd, act):
    turn_id = crowd.turns[-1]
    {
        "set_priority": lambda: crowd.set_priority(turn_id, 3),
        "suspend": lambda: crowd.suspend(turn_id),
        "cancel": lambda: crowd.cancel(turn_id),
        "submit": lambda: crowd.submit([1], 1),
    }[act]()
    crowd.step()
    ranked, placed = crowd.counting.asked()
    assert ranked == 1
    assert placed
    check_engine(crowd)


def test_the_crowd_is_served(crowd):
    finish(crowd)
    assert [len(crowd.turn(turn_id).generated) for turn_id in crowd.turns] == [4] * 6


def test_rooms_of_those_who_run_are_the_managers(crowd):
    for _ in range(12):
        crowd.step()
        for request in crowd._loop._placer.running:
            if request.turn is not None:
                assert request.room == crowd.kv.device_blocks(request.request_id) * crowd.kv.block_size

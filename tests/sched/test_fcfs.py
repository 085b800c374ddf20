"""First come, first served."""

from itertools import permutations

from fastswitch.sched import FCFS
from tests.sched.fakes import waiting

REQUESTS = [waiting(3, 1, arrival=1.0), waiting(1, 1, arrival=2.0), waiting(2, 1, arrival=2.0)]


def test_order_is_arrival_then_id_whatever_the_priority():
    REQUESTS[0].priority = 3
    for requests in permutations(REQUESTS):
        assert [request.request_id for request in FCFS().order(requests)] == [3, 1, 2]


def test_who_came_first_takes_its_room_back():
    first, second, third = REQUESTS
    ranker = FCFS()
    assert ranker.may_preempt(first, second)
    assert ranker.may_preempt(second, third)
    assert not ranker.may_preempt(second, first)
    assert not ranker.may_preempt(first, first)


def test_has_no_levels():
    assert FCFS().new_levels(REQUESTS, 25) == {}


def test_forecasts_nothing_since_nothing_changes():
    assert FCFS().forecast(REQUESTS, 25) is None

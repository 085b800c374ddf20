"""Levels that change at run time, and the order that they give."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import NUM_LEVELS, MarkovPriorities, PriorityTrace, RandomPriorities
from tests.sched.fakes import idle, running, swapped, waiting

PATTERNS = [RandomPriorities, MarkovPriorities]
SMALL = st.integers(0, 60)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(seed=st.integers(0, 2**32), asked=st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=8))
def test_level_is_a_function_of_seed_update_and_conversation(pattern, seed, asked):
    """Whatever was asked before, in whatever order."""
    used = pattern(seed)
    for conversation, update in asked:
        level = used.level(conversation, update)
        assert level == pattern(seed).level(conversation, update)
        assert 0 <= level < NUM_LEVELS


@pytest.mark.parametrize("pattern", PATTERNS)
def test_seed_update_and_conversation_all_count(pattern):
    def levels(seed, conversations, update):
        return [pattern(seed).level(conversation, update) for conversation in conversations]

    assert levels(0, range(40), 50) != levels(1, range(40), 50)
    assert levels(0, range(40), 50) != levels(0, range(40, 80), 50)
    assert levels(0, range(40), 50) != levels(0, range(40), 0)


def test_levels_are_the_same_on_every_machine():
    assert [RandomPriorities(0).level(conversation, 1) for conversation in range(10)] == [0, 2, 2, 3, 0, 2, 3, 1, 2, 0]
    markov = MarkovPriorities(0)
    assert [markov.level(3, update) for update in range(0, 100, 10)] == [3, 3, 2, 1, 0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_level_is_as_frequent(pattern):
    levels = [pattern(7).level(conversation, 3) for conversation in range(2000)]
    for level in range(NUM_LEVELS):
        assert 430 < levels.count(level) < 570


def test_random_levels_are_drawn_afresh():
    pattern = RandomPriorities(0)
    same = sum(pattern.level(c, u) == pattern.level(c, u + 1) for c in range(40) for u in range(50))
    assert 430 < same < 570  # one in four of 2000


def test_markov_steps_to_a_neighbour_one_time_in_ten():
    pattern = MarkovPriorities(0)
    chains = [[pattern.level(conversation, update) for update in range(200)] for conversation in range(60)]
    steps = [(a, b - a) for chain in chains for a, b in pairwise(chain)]
    assert {move for _, move in steps} == {-1, 0, 1}
    inside = [move for level, move in steps if level in (1, 2)]
    assert 0.09 < sum(move != 0 for move in inside) / len(inside) < 0.11
    assert 0.8 < inside.count(1) / inside.count(-1) < 1.25
    # at the ends half of the moves are clipped
    ends = [move for level, move in steps if level in (0, 3)]
    assert 0.04 < sum(move != 0 for move in ends) / len(ends) < 0.06


def test_a_step_of_0_never_moves_and_1_always_does():
    stuck, restless = MarkovPriorities(0, step=0.0), MarkovPriorities(0, step=1.0)
    assert {stuck.level(5, update) for update in range(50)} == {RandomPriorities(0).level(5, 0)}
    assert all(restless.level(5, u) != restless.level(5, u + 1) or restless.level(5, u) in (0, 3) for u in range(50))


@pytest.mark.parametrize(("frequency", "every"), [(0.04, 25), (0.02, 50), (1.0, 1), (0.1, 10), (1 / 49, 49)])
def test_one_update_every_so_many_executed_iterations(frequency, every):
    ranker = PriorityTrace(RandomPriorities(0), frequency)
    requests = [
        running(0, 1, priority=3),
        idle(1, 1, 0.0, priority=3),
        swapped(2, 1, priority=3),
        waiting(3, 1, priority=3),
    ]
    updates = [n for n in range(2001) if ranker.new_levels(requests, n)]
    assert updates == list(range(every, 2001, every))


def test_all_requests_step_at_once_idle_ones_too():
    ranker = PriorityTrace(RandomPriorities(4), 0.04)
    requests = [
        running(0, 1, priority=3),
        idle(1, 1, 0.0, priority=3),
        swapped(2, 1, priority=3),
        waiting(3, 1, priority=3),
    ]
    assert ranker.new_levels(requests, 24) == {}
    assert ranker.new_levels(requests, 25) == {r: RandomPriorities(4).level(r, 1) for r in range(4)}
    # the same iteration again, since a step may execute nothing
    assert ranker.new_levels(requests, 25) == {}


CROWD = [waiting(i, 1, arrival=float(i * 7 % 5)) for i in range(12)]


def drawn(ranker, executed_iterations):
    """Let the requests have their levels, as an engine does, and say in which order they are."""
    levels = ranker.new_levels(CROWD, executed_iterations)
    for request in CROWD:
        request.priority = levels.get(request.request_id, request.priority)
    return [request.request_id for request in ranker.order(CROWD)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(5))
def test_a_forecast_is_the_order_after_the_update_that_is_due_then(pattern, seed):
    ranker = PriorityTrace(pattern(seed), 0.04)
    orders = [drawn(ranker, 0)]
    for update in range(1, 30):
        forecast = ranker.forecast(CROWD, 25 * update)
        assert [request.request_id for request in CROWD] == list(range(12))
        orders.append(drawn(ranker, 25 * update))
        assert [request.request_id for request in forecast] == orders[-1]
    assert len({tuple(order) for order in orders}) > 10, "else any order would do"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_there_is_no_forecast_where_no_update_is_due(pattern):
    ranker = PriorityTrace(pattern(0), 0.04)
    drawn(ranker, 25)
    told = [n for n in range(25, 76) if ranker.forecast(CROWD, n) is not None]
    assert told == list(range(50, 76)), "before 50 the order stays as it is"
    drawn(ranker, 50)
    assert ranker.forecast(CROWD, 51) is None


def test_levels_that_are_the_users_have_no_forecast():
    ranker = PriorityTrace(None, 0.04)
    drawn(ranker, 0)
    assert ranker.forecast(CROWD, 25) is None


def test_a_forecast_is_of_those_who_are_asked_about_alone():
    ranker = PriorityTrace(RandomPriorities(3), 0.04)
    drawn(ranker, 0)
    some = CROWD[::3]
    forecast = ranker.forecast(some, 25)
    assert forecast == [request for request in ranker.forecast(CROWD, 25) if request in some]
    assert ranker.forecast([], 25) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_asking_for_a_forecast_changes_nothing(pattern):
    def levels(*, asking):
        ranker, requests, drawn_levels = PriorityTrace(pattern(1), 0.2), [waiting(i, 1) for i in range(8)], []
        for iteration in range(60):
            if asking:
                before = [(request.priority, request.request_id) for request in requests]
                for ahead in (1, 7, 100):
                    ranker.forecast(requests, iteration + ahead)
                assert [(request.priority, request.request_id) for request in requests] == before
                assert ranker.is_due(iteration) == (iteration > 0 and iteration % 5 == 0)
            new = ranker.new_levels(requests, iteration)
            for request_id, level in new.items():
                requests[request_id].priority = level
            drawn_levels.append(dict(new))
        return drawn_levels

    assert levels(asking=True) == levels(asking=False)


def test_a_new_request_gets_the_level_of_its_time_at_once():
    ranker = PriorityTrace(RandomPriorities(4), 0.04)
    ranker.new_levels([], 60)
    assert ranker.new_levels([waiting(9, 1), running(1, 1, priority=0)], 61) == {9: RandomPriorities(4).level(9, 2)}


def test_a_level_that_was_set_stays_until_the_next_update():
    ranker = PriorityTrace(RandomPriorities(0), 0.04)
    mine = waiting(5, 1, priority=1)
    assert ranker.new_levels([mine], 0) == {}
    assert ranker.new_levels([mine], 24) == {}
    assert ranker.new_levels([mine], 25) == {5: RandomPriorities(0).level(5, 1)}


def test_without_a_pattern_levels_are_the_users():
    ranker = PriorityTrace(None)
    assert ranker.new_levels([waiting(0, 1, priority=2), waiting(1, 1)], 25) == {1: 0}


def test_order_is_level_then_arrival_then_id():
    ranker = PriorityTrace(None)
    requests = [
        waiting(4, 1, priority=1, arrival=0.0),
        waiting(3, 1, priority=0, arrival=2.0),
        waiting(2, 1, priority=0, arrival=1.0),
        waiting(1, 1, priority=0, arrival=2.0),
    ]
    assert [request.request_id for request in ranker.order(requests)] == [2, 1, 3, 4]
    for better, worse in ((2, 1), (1, 3), (3, 4)):
        a, b = (next(r for r in requests if r.request_id == i) for i in (better, worse))
        assert ranker.may_preempt(a, b)
        assert not ranker.may_preempt(b, a)
        assert not ranker.may_preempt(a, a)


@pytest.mark.parametrize("frequency", [0.0, -0.1, 1.5])
def test_frequency_is_checked(frequency):
    with pytest.raises(ValueError, match=rf"^frequency must be in \(0, 1\], got {frequency}$"):
        PriorityTrace(None, frequency)


def test_step_is_checked():
    with pytest.raises(ValueError, match=r"^step must be a probability, got 1\.5$"):
        MarkovPriorities(0, step=1.5)

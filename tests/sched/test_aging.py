"""Aging over any ranker: who has waited too long comes first, and nobody takes its room."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fastswitch.sched import (
    FCFS,
    MLFQ,
    Aging,
    PreemptiveVTC,
    PriorityTrace,
    RandomPriorities,
    RequestState,
    TokenAccountant,
)
from tests.sched.driver import Driver
from tests.sched.fakes import running, waiting

TOKEN = (0, 1)


class LastComeFirst(FCFS):
    """Starves the first for as long as others come."""

    def order(self, requests):
        return super().order(requests)[::-1]

    def may_preempt(self, challenger, holder):
        return super().may_preempt(holder, challenger)


def make(max_wait=3, ranker=None):
    accountant = TokenAccountant()
    driver = Driver(Aging(ranker or LastComeFirst(), accountant, max_wait=max_wait))
    driver.accountant = accountant
    return driver


def crowd(driver, num_requests=4):
    return [driver.arrive(request_id) for request_id in range(num_requests)]


def test_who_was_not_served_for_so_long_comes_first_and_goes_back_when_it_was():
    driver = make()
    crowd(driver, 3)
    for _ in range(3):
        assert driver.step((2, *TOKEN), (1, *TOKEN)) == [2, 1, 0]
    assert driver.step((2, *TOKEN), (1, *TOKEN)) == [0, 2, 1]
    assert driver.step((2, *TOKEN), (0, *TOKEN)) == [0, 2, 1], "until it is served"
    assert driver.step((2, *TOKEN)) == [2, 1, 0]


def test_among_the_aged_the_longest_wait_is_first():
    driver = make()
    crowd(driver, 3)
    driver.step((0, *TOKEN), (1, *TOKEN), (2, *TOKEN))
    driver.step((0, *TOKEN))
    driver.step((2, *TOKEN))
    for _ in range(3):
        driver.step()
    assert driver.look() == [1, 0, 2]


def test_who_waits_equally_long_is_served_by_arrival():
    driver = make()
    crowd(driver, 3)
    for _ in range(3):
        driver.step()
    assert driver.look() == [0, 1, 2]


def test_only_the_aged_push_out_while_one_has_aged():
    driver = make()
    first, second, third = crowd(driver, 3)
    may = driver.ranker.may_preempt
    driver.step((2, *TOKEN))
    assert may(third, second)
    assert not may(second, third), "as the ranker says"
    driver.step((2, *TOKEN))
    driver.step((2, *TOKEN))
    driver.look()
    assert may(first, second)
    assert not may(second, first), "both have aged"
    assert may(first, third)
    assert may(second, third)
    assert not may(third, second)
    assert not may(third, first)
    fourth = driver.arrive(3)
    assert not may(fourth, third), "the ranker would let it"
    driver.step((0, *TOKEN), (1, *TOKEN))
    driver.look()
    assert may(fourth, third)


def test_one_that_is_suspended_keeps_nobody_from_preempting():
    """It is not among those that are ranked."""
    driver = make()
    first, second, third = crowd(driver, 3)
    for _ in range(3):
        driver.step((1, *TOKEN), (2, *TOKEN))
    driver.look()
    assert driver.ranker.order([second, third]) == [third, second]
    assert driver.ranker.may_preempt(third, second)
    assert driver.ranker.order([first, second, third])[0] is first
    assert not driver.ranker.may_preempt(third, second)


def test_tokens_that_are_computed_again_are_no_service():
    driver = make()
    crowd(driver, 2)
    for _ in range(3):
        driver.step((0, 0, 0), (1, *TOKEN))
    assert driver.look() == [0, 1]
    driver.step((0, 0, 0), (1, *TOKEN))
    assert driver.look() == [0, 1]
    driver.step((0, 1, 0))
    assert driver.look() == [1, 0]


def test_the_wait_is_of_the_turn():
    driver = make()
    crowd(driver, 2)
    for _ in range(3):
        driver.step()
    assert driver.look() == [0, 1]
    driver.end(0)
    assert not driver.ranker._aged.keys() - {1}
    driver.step((1, *TOKEN))
    driver.step()
    driver.arrive(0)
    assert driver.look() == [0, 1], "it came last, so this ranker wants it first"
    driver.step()
    driver.step()
    assert driver.look() == [1, 0], "1 waits since iteration 4, 0 since iteration 5"


def test_it_is_due_when_somebody_ages_or_was_served_after_that_and_costs_nothing_else():
    driver = make(max_wait=4)
    crowd(driver, 8)
    dues = []
    for iteration in range(20):
        before = driver.num_dues
        driver.step(*[(request_id, *TOKEN) for request_id in range(8) if request_id or iteration == 9])
        if driver.num_dues > before:
            dues.append(iteration)
    assert dues == [4, 10, 14]


def test_the_accountant_is_told_everything():
    driver = make()
    crowd(driver, 1)
    driver.step((0, 5, 1), (0, 0, 0))
    assert (driver.accountant.prefill_tokens[None], driver.accountant.decode_tokens[None]) == (5, 1)


def test_over_mlfq_both_work():
    mlfq = MLFQ(float, 1.0, num_queues=5)
    driver = Driver(Aging(mlfq, max_wait=5))
    driver.arrive(0, 9)
    driver.arrive(1, 1)
    assert driver.queues() == {0: 4, 1: 0}
    for iteration in range(5):
        assert driver.step((1, int(not iteration), 1)) == [1, 0]
    assert driver.queues() == {0: 4, 1: 2}
    assert driver.step((0, 1, 0)) == [0, 1]


def test_the_ranker_is_asked_about_everybody_when_it_is_due_else_about_those_that_it_has_not_seen():
    asked = []

    class Noting(PriorityTrace):
        def new_levels(self, requests, executed_iterations):
            asked.append([request.request_id for request in requests])
            return super().new_levels(requests, executed_iterations)

    driver = make(max_wait=2, ranker=Noting(RandomPriorities(0), 0.1))
    crowd(driver, 2)
    for iteration in range(12):
        if iteration == 4:
            driver.arrive(2)
        driver.step()
    assert asked == [[0, 1], [2], [0, 1, 2]]


def test_it_remembers_only_those_that_there_are():
    driver = make(max_wait=2)
    for request_id in range(50):
        driver.arrive(request_id)
        driver.step()
        driver.end(request_id)
        driver.requests.pop(request_id)
    crowd(driver, 2)
    for _ in range(3):
        driver.step()
    driver.look()
    assert driver.ranker._known == {0, 1}


def test_a_forecast_is_the_rankers_behind_those_who_will_have_aged():
    pattern = RandomPriorities(1)
    driver = make(max_wait=4, ranker=PriorityTrace(pattern, 0.25))
    requests = crowd(driver, 6)
    for _ in range(3):
        driver.step(*[(request_id, *TOKEN) for request_id in range(6) if request_id not in (1, 4)])
    driver.look()
    assert driver.ranker.forecast(requests, 3) is None
    assert driver.ranker.is_due(4)
    forecast = [request.request_id for request in driver.ranker.forecast(requests, 4)]
    driver.step(*[(request_id, *TOKEN) for request_id in range(6) if request_id not in (1, 4)])
    assert driver.look() == forecast
    assert forecast[:2] == [1, 4]
    driver.step((1, *TOKEN))
    driver.step(), driver.step()
    assert not driver.ranker.ranker.is_due(7)
    coming = driver.ranker.forecast(requests, 8)
    assert coming[0].request_id == 4
    assert {request.request_id for request in coming} == set(range(6))


@pytest.mark.parametrize("max_wait", [0, -3])
def test_max_wait_is_checked(max_wait):
    with pytest.raises(ValueError, match=rf"^max_wait must be at least 1 iteration, got {max_wait}$"):
        Aging(FCFS(), max_wait=max_wait)


@given(st.lists(st.sets(st.integers(0, 3)), max_size=40), st.integers(1, 6))
def test_whoever_is_served(iterations, max_wait):
    """Against a model that counts."""
    driver = make(max_wait)
    requests, waits, aged_order = crowd(driver), dict.fromkeys(range(4), 0), []
    for served in iterations:
        aged_order += sorted(
            (i for i in waits if waits[i] >= max_wait and i not in aged_order), key=lambda i: (-waits[i], i)
        )
        expected = aged_order + [i for i in (3, 2, 1, 0) if i not in aged_order]
        assert driver.look() == expected
        for a in requests:
            for b in requests:
                better = expected.index(a.request_id) < expected.index(b.request_id)
                allowed = better and (a.request_id in aged_order or not aged_order)
                assert driver.ranker.may_preempt(a, b) == allowed
        driver.step(*[(i, *TOKEN) for i in served])
        waits = {i: 0 if i in served else wait + 1 for i, wait in waits.items()}
        aged_order = [i for i in aged_order if i not in served]


def shares_with_two_that_wait(max_wait):
    """Client b has two turns that wait while a's is served."""
    shares = PreemptiveVTC(horizon=4)
    aging = Aging(shares, max_wait=max_wait)
    served = running(0, 1, client_id="a", num_prompt_tokens=1)
    waits = [waiting(i, 1, client_id="b", num_prompt_tokens=1) for i in (1, 2)]
    requests = [served, *waits]
    for request in requests:
        aging.arrived(request)
    aging.admitted(served, 1)
    served.admitted = True
    for iteration in range(40):
        if aging.is_due(iteration):
            aging.new_levels(requests, iteration)
            aging.order(requests)
        aging.charge(served, 0, 1)
    return aging, shares, requests


@pytest.mark.parametrize("max_wait", [10, 1000])
def test_who_has_aged_still_wants_for_room_as_the_ranker_sees_it(max_wait):
    aging, shares, (served, first, second) = shares_with_two_that_wait(max_wait)
    first.state, first.admitted = served.state, True
    aging.admitted(first, 1)
    aging.charge(first, 1, 1)
    first.state = RequestState.SWAPPED
    aging.is_due(41)
    aging.new_levels([served, first, second], 41)
    aging.order([served, first, second])
    assert shares.counters.value("b") == 1 + 2, "b has waited all the time: it is lifted to nobody"


def test_a_forecast_changes_nothing_of_what_the_ranker_goes_by():
    aging, shares, requests = shares_with_two_that_wait(10)
    aging.order(requests)
    before = dict(shares.counters.values), [aging.may_preempt(a, b) for a in requests for b in requests]
    shares.counters.charge_output("a", 500)
    for ahead in (41, 45, 400):
        aging.forecast(requests[1:], ahead)
    shares.counters.charge_output("a", -500)
    assert before == (dict(shares.counters.values), [aging.may_preempt(a, b) for a in requests for b in requests])


def test_whom_the_ranker_was_asked_about_is_forgotten_when_it_ends():
    aging = Aging(FCFS(), max_wait=1000)
    for i in range(50):
        request = waiting(i, 1)
        aging.arrived(request)
        aging.new_levels([request], i)
        aging.ended(request)
    assert not aging._known

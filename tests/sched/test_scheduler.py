"""The scheduler asks its four roles, and enacts nothing."""

import copy
from dataclasses import FrozenInstanceError

import pytest

from fastswitch.sched import (
    FCFS,
    EvictionWay,
    PrefillFirst,
    Ranker,
    RequestState,
    Scheduler,
    SchedulerOutput,
    SwapOut,
)
from tests.sched.fakes import FakeRequest, idle, pools, running, swapped, waiting


class LastComeFirst(FCFS):
    def order(self, requests):
        return super().order(requests)[::-1]

    def may_preempt(self, challenger, holder):
        return super().may_preempt(holder, challenger)


class Nothing:
    def pack(self, ready):
        self.asked = ready
        return SchedulerOutput(())


def scheduler(ranker=None, packer=None):
    return Scheduler(ranker or FCFS(), packer or PrefillFirst(), SwapOut())


def test_ranker_and_evictor_are_obeyed():
    placement = scheduler(LastComeFirst()).place([running(0, 2), waiting(1, 1)], pools(host_free=1))
    assert placement.order == (1, 0)
    assert [eviction.way for eviction in placement.evictions] == [EvictionWay.RECOMPUTE]


def test_packer_is_obeyed():
    packer = Nothing()
    ready = [running(0, 1)]
    assert scheduler(packer=packer).pack(ready) == SchedulerOutput(())
    assert packer.asked is ready


@pytest.mark.parametrize(
    ("order", "got"),
    [
        (lambda ranked: [], "got 0, 0 of them different"),
        (lambda ranked: ranked[:-1], "got 1, 1 of them different"),
        (lambda ranked: ranked[:1] * 2, "got 2, 1 of them different"),
        (lambda ranked: ranked * 2, "got 4, 2 of them different"),
    ],
)
def test_an_order_that_is_not_of_all_is_refused(order, got):
    class Partial(FCFS):
        def order(self, requests):
            return order(super().order(requests))

    with pytest.raises(ValueError, match=rf"^order\(\) of Partial must give back each of 2 requests once, {got}$"):
        scheduler(Partial()).place([running(0, 1), waiting(1, 1)], pools(1))


def test_a_ranker_without_both_of_its_methods_cannot_be_made():
    class Halved(Ranker):
        def order(self, requests):
            return list(requests)

    with pytest.raises(TypeError, match="may_preempt"):
        Halved()


def test_requests_may_come_in_any_order_and_as_an_iterator():
    requests = [idle(5, 1, 3.0), waiting(2, 1), idle(4, 1, 1.0), swapped(1, 1), running(0, 1)]
    placements = {
        scheduler().place(iter(order), pools(3)) for order in (requests, requests[::-1], sorted(requests, key=str))
    }
    assert [placement.order for placement in placements] == [(0, 1, 2, 5, 4)]


def test_equally_idle_ones_are_ordered_by_id():
    for requests in ([idle(1, 1, 2.0), idle(2, 1, 2.0)], [idle(2, 1, 2.0), idle(1, 1, 2.0)]):
        assert scheduler().place(requests, pools()).order == (1, 2)


def test_an_idle_conversation_wants_nothing_wherever_it_is():
    requests = [
        FakeRequest(i, state, device_blocks=int(state is not RequestState.WAITING), idle_since=0.0)
        for i, state in enumerate(RequestState)
        if state is not RequestState.FINISHED
    ]
    placement = scheduler().place(requests, pools(9))
    assert (placement.swap_ins, placement.admissions, placement.unplaced, placement.evictions) == ((), (), (), ())


def test_rule_1_deciding_charges_nobody_and_changes_nothing():
    requests = [running(0, 2, num_tokens=9), waiting(1, 3, num_tokens=9), idle(2, 2, 0.0, dirty=1)]
    before = copy.deepcopy(requests)
    deciding = scheduler()
    deciding.place(requests, pools(1))
    deciding.pack(requests[:1])
    assert requests == before
    assert not deciding.accountant.prefill_tokens
    assert not deciding.accountant.decode_tokens


def test_decisions_are_values():
    placement = scheduler().place([waiting(0, 1)], pools(1))
    with pytest.raises(FrozenInstanceError):
        placement.order = ()
    assert placement == scheduler().place([waiting(0, 1)], pools(1))
    assert hash(placement) == hash(scheduler().place([waiting(0, 1)], pools(1)))

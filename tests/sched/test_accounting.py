"""Charging what was enacted, and who is told of it."""

import pytest

from fastswitch.sched import (
    FCFS,
    MLFQ,
    VTC,
    Accountant,
    Aging,
    Hysteresis,
    PreemptiveVTC,
    PrefillFirst,
    Scheduler,
    SwapOut,
    TokenAccountant,
)
from tests.sched.fakes import running


def told(ranker, *accountant):
    return Scheduler(ranker, PrefillFirst(), SwapOut(), *accountant).accountant


def test_counts_by_client():
    accountant = TokenAccountant()
    mine, yours, mine_too = running(0, 1, client_id="a"), running(1, 1, client_id="b"), running(2, 1, client_id="a")
    accountant.charge(mine, 30, 1)
    accountant.charge(yours, 0, 1)
    accountant.charge(mine_too, 5, 0)
    accountant.charge(mine, 0, 1)
    assert accountant.prefill_tokens == {"a": 35, "b": 0}
    assert accountant.decode_tokens == {"a": 2, "b": 1}
    assert accountant.prefill_tokens["nobody"] == 0


@pytest.mark.parametrize("ranker", [VTC(), PreemptiveVTC(), MLFQ(float, 1.0)])
def test_a_ranker_that_ranks_by_what_was_served_is_told_through_whatever_wraps_it(ranker):
    assert told(ranker) is ranker
    assert told(Hysteresis(ranker, min_stay=1)) is ranker
    aging = Aging(Hysteresis(ranker, min_stay=1), max_wait=5)
    assert (told(aging), aging.accountant) == (aging, ranker)
    assert told(Hysteresis(aging, min_stay=1)) is aging


def test_others_have_a_counter_of_their_own():
    first, second = told(FCFS()), told(Hysteresis(FCFS(), min_stay=1))
    assert type(first) is type(second) is TokenAccountant
    assert first is not second
    assert type(Aging(FCFS(), max_wait=5).accountant) is TokenAccountant


def test_an_accountant_that_is_given_is_kept():
    class Both(Accountant):
        """Tells two others."""

        def charge(self, request, num_prefill_tokens, num_decode_tokens):
            return

    both, tokens = Both(), TokenAccountant()
    assert told(VTC(), both) is both
    assert told(FCFS(), tokens) is tokens
    assert Aging(VTC(), both, max_wait=5).accountant is both


@pytest.mark.parametrize(
    "make",
    [
        lambda: told(VTC(), TokenAccountant()),
        lambda: told(Hysteresis(VTC(), min_stay=1), TokenAccountant()),
        lambda: Aging(VTC(), TokenAccountant(), max_wait=5),
    ],
)
def test_a_counter_that_would_leave_the_ranker_untold_is_refused(make):
    with pytest.raises(ValueError, match="^VTC ranks by what was served, .*: give no accountant$"):
        make()

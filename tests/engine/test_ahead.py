"""Copies ahead of need: who is copied, how much of it, and that nobody ever pays for it."""

from __future__ import annotations

import pytest

from fastswitch.engine import AdaptiveSwap, SwapReport
from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.engine.pacing import Pacing
from fastswitch.memory import SwapDirection
from fastswitch.sched import RequestState
from tests.engine.small_engine import check_answers, finish, make_engine

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN
LOW, HIGH = 2, 0  # levels


class Driven:
    """An engine whose copies land when told, watched after each step."""

    def __init__(self, **options):
        self.engine = make_engine(**({"device_blocks": 24, "copies_ahead": True} | options))
        self.checker = InvariantChecker(self.engine)
        self.turns = []

    def ask(self, num_tokens, num_new, level, conversation=None):
        first = 1000 * len(self.turns)
        tokens = range(first, first + num_tokens)
        turn_id = self.engine.submit(tokens, num_new, priority=level, conversation_id=conversation)
        self.turns.append(self.engine.turn(turn_id))
        return self.turns[-1]

    def step(self, times=1):
        for _ in range(times):
            self.engine.step()
            self.checker.check()

    def land(self):
        """Everything that is under way arrives."""
        while self.engine.swaps.jobs:
            self.engine.swaps.land()

    def land_needed(self):
        """All but what was begun ahead arrives."""
        while needed := [i for i, job in enumerate(self.engine.swaps.jobs) if not job.ahead]:
            self.engine.swaps.land(needed[0])

    def under_way(self):
        """Of each job under way: whose, which way, the tokens, and whether it was begun ahead."""
        return [
            (job.request_id, job.direction, job.ranges[0].start_token, job.ranges[0].end_token, job.ahead)
            for job in self.engine.swaps.jobs
        ]

    def end_turns(self, *turn_ids):
        """One after the other, a second each."""
        for turn_id in turn_ids:
            self.engine.cancel(turn_id)
            self.engine.clock.sleep(1)

    def request(self, request_id):
        return next(request for request in self.engine.requests if request.request_id == request_id)

    def finish(self):
        finish(self.engine, self.checker.check)
        by_conversation = {}
        for turn in self.turns:
            by_conversation.setdefault(turn.request_id, []).append(turn)
            assert turn.ended
        for turns in by_conversation.values():
            check_answers(turns)


def pace(**blocks):
    """A rule that has seen the link carry so many blocks during an iteration of a second, by direction."""
    adaptive = AdaptiveSwap()
    for name, num_blocks in blocks.items():
        adaptive.observe_copy(SwapDirection(name), num_blocks, 1.0)
    return adaptive


# Write-back


def test_the_resident_that_ranks_last_is_copied_while_it_goes_on_computing():
    driven = Driven(host_blocks=9)  # 1 is kept free, so 8 are idle
    high, low = driven.ask(17, 7, HIGH), driven.ask(17, 7, LOW)
    driven.step()
    assert driven.under_way() == [], "nothing has KV yet"
    driven.step()
    assert driven.under_way() == [(1, OUT, 0, 16, True)]
    assert driven.request(1).pinned
    driven.step(2)
    assert [len(turn.generated) for turn in (high, low)] == [4, 4]
    driven.land()
    driven.step()
    assert (driven.request(1).state, driven.request(1).host_valid_len) == (RequestState.RUNNING, 16)
    driven.finish()
    assert driven.engine.counts.ahead_blocks(OUT) == 8
    check_all_free(driven.engine)


def test_whoever_ranks_last_is_first_and_the_next_has_what_is_left_of_the_budget():
    driven = Driven(device_blocks=32)
    driven.ask(17, 7, HIGH)
    driven.ask(21, 7, LOW)
    driven.step(2)
    # the first copies are of 16 blocks at most: 10 full ones of the lower rank, and no more than 6 for the other
    assert driven.under_way() == [(1, OUT, 0, 20, True), (0, OUT, 0, 12, True)]
    driven.finish()


def test_its_later_eviction_copies_only_the_last_blocks():
    driven = Driven()
    low = driven.ask(17, 9, LOW)
    driven.step(2)
    driven.land()
    driven.step()
    driven.ask(40, 2, HIGH)
    driven.step()
    # it has KV of 19 tokens: those behind the first 16 are copied now
    assert driven.under_way() == [(0, OUT, 16, 19, False)]
    assert driven.engine.swaps.jobs[0].num_blocks == 2
    driven.finish()
    assert low.switched.count(True) == 1
    assert driven.engine.counts.recomputed_tokens == 0
    assert driven.engine.counts.reused_tokens == 16


def test_the_eviction_of_an_idle_one_that_was_written_back_copies_nothing():
    driven = Driven()
    driven.ask(9, 2, HIGH, "idle")
    driven.step(2)
    driven.ask(3, 12, HIGH)
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 10, True)], "a block that is not full too: it will not grow"
    driven.land()
    wants = driven.ask(36, 2, HIGH)
    driven.step()
    assert all(job.ahead for job in driven.engine.swaps.jobs)
    assert (driven.engine.counts.clean_evictions, len(wants.generated)) == (1, 1), "it is in at once"
    driven.ask(2, 2, HIGH, "idle")
    driven.finish()
    assert driven.engine.counts.recomputed_tokens == 0


def test_the_longest_idle_one_comes_before_the_others_and_before_all_that_run():
    driven = Driven()
    for name in ("long", "short"):
        driven.ask(5, 9, HIGH, name)
    driven.ask(17, 9, LOW)
    driven.step()
    driven.end_turns(0, 1)
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 5, True), (1, OUT, 0, 5, True), (2, OUT, 0, 16, True)]
    driven.finish()


def test_of_one_that_grows_nothing_is_copied_until_there_are_8_full_blocks():
    driven = Driven()
    driven.ask(14, 20, LOW)
    for num_valid in (14, 15):
        driven.step()
        assert driven.under_way() == []
        assert driven.request(0).valid_len == num_valid
    driven.step()
    assert driven.under_way() == [], "begun before its 16th token was computed"
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 16, True)]
    driven.land()
    driven.step(15)
    assert driven.under_way() == []
    driven.step()
    assert driven.under_way() == [(0, OUT, 16, 32, True)]
    driven.finish()


def test_no_more_is_begun_than_the_link_carries_nor_anything_behind_it():
    driven = Driven(adaptive=pace(swap_out=4))
    driven.ask(33, 12, LOW)
    driven.step(2)
    assert driven.under_way() == [(0, OUT, 0, 8, True)]
    driven.step(3)
    assert driven.under_way() == [(0, OUT, 0, 8, True)], "one at a time"
    for start in (8, 16):
        driven.land()
        driven.step()
        assert driven.under_way() == [(0, OUT, start, start + 8, True)]
    driven.land()
    driven.step()
    # of 38 tokens 24 are written: 7 full blocks are left, and 8 make a job
    assert driven.under_way() == []
    driven.finish()


def test_nothing_is_begun_while_a_needed_copy_is_under_way_in_that_direction():
    driven = Driven()
    driven.ask(17, 12, HIGH)
    driven.ask(5, 9, LOW)
    driven.step()
    driven.engine.suspend(1)
    driven.step()
    assert driven.under_way() == [(1, OUT, 0, 5, False)]
    driven.step(2)
    assert driven.under_way() == [(1, OUT, 0, 5, False)]
    driven.land()
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 20, True)]
    driven.engine.resume(1)
    driven.finish()


def test_nothing_is_written_beyond_the_idle_room_of_the_host():
    driven = Driven(host_blocks=8)  # 1 is kept free
    driven.ask(17, 2, HIGH, "idle")
    driven.step(2)
    driven.ask(3, 6, HIGH)
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 14, True)]
    driven.land()
    driven.step()
    assert driven.under_way() == []
    driven.finish()


def test_whoever_is_being_written_back_is_not_pushed_out_until_that_has_landed():
    driven = Driven()
    low = driven.ask(17, 9, LOW)
    driven.step(2)
    high = driven.ask(40, 2, HIGH)
    for _ in range(3):
        before = len(low.generated)
        driven.step()
        assert driven.under_way() == [(0, OUT, 0, 16, True)]
        assert (len(low.generated), len(high.generated)) == (before + 1, 0)
    driven.land()
    driven.step()
    assert driven.under_way() == [(0, OUT, 16, 21, False)]
    driven.finish()


def test_a_write_back_that_fails_costs_its_request_nothing():
    driven = Driven()
    driven.ask(17, 12, LOW)
    driven.step(2)
    driven.engine.swaps.fail()
    driven.step()
    assert driven.under_way() == [(0, OUT, 0, 18, True)], "and is begun again"
    assert (driven.request(0).state, driven.request(0).host_valid_len) == (RequestState.RUNNING, 0)
    driven.ask(40, 2, HIGH)
    driven.finish()
    counts = driven.engine.counts
    assert (counts.failed, counts.drops, counts.recomputed_tokens) == (1, 0, 0)
    check_all_free(driven.engine)


def test_of_one_whose_write_back_hangs_nothing_is_kept_and_its_tokens_are_right():
    driven = Driven(device_blocks=32)
    driven.ask(17, 6, LOW)
    driven.step(2)
    job = driven.engine.swaps.jobs.popleft()
    driven.engine.swaps._ended.append(SwapReport(job, "hung", error=TimeoutError("no end")))
    driven.step()
    assert driven.engine.kv.count_blocks(driven.engine.kv.host)["quarantined"] == 8
    assert driven.engine.counts.drops == 1
    driven.finish()
    driven.engine.swaps._ended.append(SwapReport(job, "held"))
    driven.step()
    check_all_free(driven.engine)


@pytest.mark.parametrize("then", ["land", "fail"])
@pytest.mark.parametrize("act", ["cancel", "end"])
def test_a_conversation_may_end_during_its_write_back(act, then):
    driven = Driven()
    driven.ask(17, 9, LOW, "talk")
    driven.step(2)
    driven.engine.cancel(0)
    if act == "end":
        driven.engine.end_conversation("talk")
    getattr(driven.engine.swaps, then)()
    finish(driven.engine, driven.checker.check)
    if act == "cancel":
        driven.engine.end_conversation("talk")
    check_answers(driven.turns)
    check_all_free(driven.engine)


def test_whoever_is_suspended_during_its_write_back_leaves_when_that_has_landed():
    driven = Driven()
    driven.ask(17, 9, LOW)
    driven.step(2)
    driven.engine.suspend(0)
    driven.step()
    driven.land()
    driven.step()
    driven.land()
    driven.step()
    assert driven.request(0).state is RequestState.SWAPPED
    driven.engine.resume(0)
    driven.finish()


def test_without_copies_ahead_nothing_is():
    driven = Driven(copies_ahead=False)
    driven.ask(9, 2, HIGH, "idle")
    driven.ask(17, 9, LOW)
    driven.step(6)
    assert driven.under_way() == []


# Prefetch


def outside(driven, *asked, idle=False):
    """Conversations 0, 1, ... that have one token and are on the host alone; asked with (tokens, level).

    With ``idle`` their turns have ended, one after the other.
    """
    turns = [driven.ask(num_tokens, 5, level, f"talk {i}") for i, (num_tokens, level) in enumerate(asked)]
    driven.step()
    if idle:
        driven.end_turns(*range(len(asked)))
    all_the_room = driven.ask(45, 1, HIGH)
    while not all_the_room.ended:
        driven.step()
        driven.land()
    assert [driven.request(i).state for i in range(len(asked))] == [RequestState.SWAPPED] * len(asked)
    assert not any(driven.engine.kv.device_blocks(i) for i in range(len(asked)))
    return turns


def behind_others(num_tokens=3, num_new=12, **options):
    """Requests 0 and 1 have KV of 15 and of 7 tokens on the host; somebody runs, and one who finds no room blocks them.

    Returns:
        The engine, driven, and four turns: theirs, the one who runs, the one who blocks.
    """
    driven = Driven(**options)
    turns = outside(driven, (15, LOW), (7, LOW + 1))
    return driven, *turns, driven.ask(num_tokens, num_new, HIGH), driven.ask(46, 2, HIGH + 1)


def needed(driven):
    """Jobs under way that were not begun ahead."""
    return [job for job in driven.engine.swaps.jobs if not job.ahead]


def test_who_waits_outside_is_copied_into_idle_room_best_first_and_stays_evicted():
    driven, *_ = behind_others()
    driven.step()
    assert driven.under_way() == [(0, IN, 0, 15, True), (1, IN, 0, 7, True)]
    driven.land()
    driven.step()
    assert driven.under_way() == []
    assert [driven.request(i).state for i in (0, 1)] == [RequestState.SWAPPED] * 2
    assert driven.engine.kv.num_clean == 12
    driven.finish()
    assert driven.engine.counts.recomputed_tokens == 0
    assert driven.engine.counts.ahead_blocks(IN) >= 12


def test_when_who_they_wait_for_wants_the_room_it_has_it_at_once():
    driven, _, _, runs, blocks = behind_others(num_new=3)
    for _ in range(3):
        driven.step()
        driven.land()
    assert (runs.ended, driven.engine.kv.num_free) == (True, 24 - 12)
    driven.step()
    assert len(blocks.generated) == 1
    assert not any(driven.engine.kv.device_blocks(i) for i in (0, 1))
    driven.finish()


def test_nothing_is_fetched_beyond_the_idle_room_of_the_device():
    driven, *_ = behind_others(num_tokens=35)
    driven.step()
    # 18 of 24 blocks are taken, and 3 are kept free
    assert driven.under_way() == [(0, IN, 0, 6, True)]
    driven.land()
    driven.step(2)
    assert not any(job.direction is IN for job in driven.engine.swaps.jobs)
    driven.finish()


def test_no_more_is_fetched_than_the_link_carries_and_nothing_behind_it():
    driven, *_ = behind_others(adaptive=pace(swap_in=5))
    for jobs in ([(0, IN, 0, 10, True)], [(0, IN, 10, 15, True), (1, IN, 0, 4, True)], [(1, IN, 4, 7, True)]):
        driven.step()
        assert driven.under_way() == jobs
        driven.step()
        assert driven.under_way() == jobs, "one after the other"
        driven.land()
    driven.finish()


def test_nothing_is_fetched_while_a_needed_copy_is_under_way_in_that_direction():
    driven = Driven()
    outside(driven, (15, LOW), (7, LOW + 1))
    driven.ask(3, 12, HIGH)
    driven.step()
    assert driven.under_way() == [(0, IN, 0, 15, False), (1, IN, 0, 7, False)]
    driven.ask(46, 2, HIGH + 1)
    driven.engine.swaps.land()
    driven.step()
    assert not any(job.ahead for job in driven.engine.swaps.jobs if job.direction is IN)
    driven.finish()


def test_a_prefetch_that_fails_costs_its_request_nothing():
    driven, *_ = behind_others()
    driven.step()
    driven.engine.swaps.fail()
    driven.step()
    assert driven.under_way() == [(1, IN, 0, 7, True)]
    assert (driven.request(0).state, driven.request(0).host_valid_len) == (RequestState.SWAPPED, 15)
    driven.land()
    driven.step()
    assert driven.under_way() == [(0, IN, 0, 15, True)], "it is begun again"
    driven.finish()
    counts = driven.engine.counts
    assert (counts.failed, counts.drops, counts.recomputed_tokens) == (1, 0, 0)


def test_whoever_is_being_fetched_is_brought_in_when_that_has_landed_and_at_once_then():
    driven, first, *_ = behind_others()
    driven.step()
    driven.engine.set_priority(0, HIGH)
    driven.step(2)
    assert (driven.request(0).state, needed(driven), len(first.generated)) == (RequestState.SWAPPED, [], 1)
    driven.land()
    driven.step()
    assert (driven.request(0).state, needed(driven), len(first.generated)) == (RequestState.RUNNING, [], 2)
    driven.finish()


class Levels:
    """From the first update on the levels that were chosen, request_id |-> level."""

    def __init__(self, chosen):
        self._chosen = chosen

    def levels(self, conversation_indices, update_index):
        return [self._chosen.get(conversation, LOW) for conversation in conversation_indices]


@pytest.mark.parametrize("copies_ahead", [True, False])
def test_a_winner_of_the_next_update_is_fetched_before_it_and_its_return_loses_no_iteration(copies_ahead):
    driven, _, wins, runs, blocks = behind_others(
        frequency=0.1, copies_ahead=copies_ahead, adaptive=pace(swap_in=4, swap_out=4)
    )
    levels = {1: HIGH, runs.request_id: HIGH, blocks.request_id: HIGH + 1}
    driven.engine._loop._scheduler.ranker.priorities = Levels(levels)
    while driven.engine.executed_iterations < 9:
        driven.step()
        assert driven.under_way() == ([(0, IN, 0, 8, True)] if copies_ahead else []), "the better one now"
    driven.land()
    driven.step()  # the last iteration before the update
    assert driven.under_way() == ([(1, IN, 0, 7, True)] if copies_ahead else [])
    driven.land()
    driven.engine._loop._switcher._pacing = Pacing(None)  # else it would wait for a copy that is short
    driven.step()
    assert driven.engine.executed_iterations == 11
    assert len(wins.generated) == (2 if copies_ahead else 1)
    assert [job.request_id for job in needed(driven)] == ([] if copies_ahead else [1])
    driven.finish()
    assert driven.engine.counts.recomputed_tokens == 0


def test_an_idle_conversation_is_fetched_when_there_is_idle_room_the_latest_first_and_its_next_turn_starts_at_once():
    driven = Driven()
    outside(driven, (7, LOW), (15, LOW), idle=True)
    driven.ask(3, 12, HIGH)
    driven.step()
    assert driven.under_way() == [(1, IN, 0, 15, True), (0, IN, 0, 7, True)]
    driven.land()
    driven.step()
    again = driven.ask(2, 3, LOW, "talk 1")
    driven.step()
    assert (len(again.generated), needed(driven)) == (1, [])
    driven.finish()
    assert driven.engine.counts.recomputed_tokens == 0


def test_no_idle_conversation_is_fetched_while_somebody_waits():
    driven = Driven()
    outside(driven, (15, LOW), idle=True)
    driven.ask(3, 4, HIGH)
    driven.ask(46, 2, HIGH + 1)
    driven.step(3)
    assert driven.under_way() == []
    driven.finish()


@pytest.mark.parametrize("then", ["land", "fail"])
@pytest.mark.parametrize("act", ["suspend", "cancel", "end"])
def test_whoever_is_being_fetched_may_be_held_off_or_end_meanwhile(act, then):
    driven, first, *_ = behind_others()
    driven.step()
    if act == "suspend":
        driven.engine.suspend(0)
    else:
        driven.engine.cancel(0)
    if act == "end":
        driven.engine.end_conversation("talk 0")
    driven.step()
    getattr(driven.engine.swaps, then)()
    driven.step()
    if act == "suspend":
        driven.engine.resume(0)
    driven.finish()
    assert first.ended
    assert driven.engine.counts.drops == 0


def test_who_wants_the_room_that_a_prefetch_is_filling_waits_for_it():
    driven = Driven()
    outside(driven, (15, LOW), (31, LOW), idle=True)
    driven.ask(3, 1, HIGH)
    driven.step()  # and nobody runs any more
    assert driven.under_way() == [(1, IN, 0, 31, True)]
    wants = driven.ask(2, 2, LOW, "talk 0")  # needs 9 blocks, 8 are free
    for _ in range(3):
        driven.step()
        driven.engine.wait_for_work()
    assert driven.engine.counts.ahead == 1
    driven.finish()
    assert wants.ended

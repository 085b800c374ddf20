"""Whom to push out: by hand, then for any residents."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastswitch.sched import (
    FCFS,
    Hysteresis,
    Insiders,
    LeastBytes,
    LowestRank,
    PriorityTrace,
    Ranking,
    SwapOut,
)
from fastswitch.sched.residency import Residency
from tests.sched.fakes import FakeRequest, idle, pools, running, waiting
from tests.sched.test_placement import may_leave, situations

SAME_LEVEL = Hysteresis(PriorityTrace(None), min_levels=1).may_preempt  # nobody pushes out within a level
CHOICES = [LowestRank(), LeastBytes(SAME_LEVEL), LeastBytes(PriorityTrace(None).may_preempt)]


def dirty(request):
    return request.dirty_blocks


def ids(chosen):
    return None if chosen is None else [each.request_id for each in chosen]


def total(attribute, requests):
    return sum(getattr(each, attribute) for each in requests)


def level(request_id, priority, blocks, dirty_blocks):
    return running(request_id, blocks, dirty=dirty_blocks, priority=priority)


class TestByHand:
    """Candidates come lowest first."""

    def test_the_lowest_ranked_whatever_they_cost(self):
        candidates = [level(3, 1, 2, 2), level(2, 1, 2, 0), level(1, 1, 9, 0)]
        assert ids(LowestRank().choose(candidates, 3, dirty)) == [3, 2]

    def test_a_clean_one_instead_of_a_dirty_one_below_it(self):
        candidates = [level(3, 1, 4, 4), level(2, 1, 4, 0), level(1, 1, 4, 3)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 4, dirty)) == [2]

    def test_one_that_is_enough_alone_instead_of_several_that_cost_less_a_block(self):
        # by blocks to copy a block freed: 3 and 2 (1/4, 1/4), together 2; alone 1 costs 3 for 10, 4 costs 1 for 5
        candidates = [level(4, 1, 5, 1), level(3, 1, 8, 2), level(2, 1, 2, 0), level(1, 1, 10, 3)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 5, dirty)) == [4]

    def test_what_a_cheaper_one_makes_superfluous_stays(self):
        # 3 comes first by its ratio, but 2, which is needed beside it, is enough alone
        candidates = [level(3, 1, 2, 0), level(2, 1, 6, 1), level(1, 1, 6, 6)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 5, dirty)) in ([2], [3, 2])
        assert total("dirty_blocks", LeastBytes(SAME_LEVEL).choose(candidates, 5, dirty)) == 1

    def test_of_equals_the_lowest(self):
        candidates = [level(3, 1, 4, 2), level(2, 1, 4, 2)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 4, dirty)) == [3]

    def test_a_better_level_is_no_peer_however_little_it_costs(self):
        candidates = [level(3, 2, 4, 4), level(2, 1, 4, 0)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 4, dirty)) == [3]

    def test_nor_is_one_that_could_take_its_room_back(self):
        candidates = [level(3, 1, 4, 4), level(2, 1, 4, 0)]
        assert ids(LeastBytes(FCFS().may_preempt).choose(candidates, 4, dirty)) == [3]

    def test_idle_ones_are_peers_whatever_their_rank_and_go_before_active_ones(self):
        candidates = [idle(4, 4, 0.0, dirty=3), idle(3, 4, 5.0, dirty=1), level(2, 1, 9, 0)]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 4, dirty)) == [3]
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 9, dirty)) == [2], "the idle ones are superfluous beside 2"
        assert ids(LeastBytes(SAME_LEVEL).choose(candidates, 10, dirty)) == [3, 2], "one of them is"

    @pytest.mark.parametrize("choice", CHOICES)
    def test_nobody_where_all_are_not_enough(self, choice):
        assert choice.choose([level(2, 1, 4, 0), level(1, 1, 3, 0)], 8, dirty) is None
        assert choice.choose([], 1, dirty) is None

    def test_who_is_not_looked_at_is_not_asked_for(self):
        asked = []

        def candidates():
            for each in [level(3, 2, 4, 4), level(2, 1, 4, 0), level(1, 0, 4, 0)]:
                asked.append(each.request_id)
                yield each

        assert ids(LowestRank().choose(candidates(), 4, dirty)) == [3]
        assert asked == [3]


RESIDENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=10
)


def make_candidates(drawn):
    requests = []
    for request_id, (priority, blocks, num_dirty, rests) in enumerate(drawn):
        num_dirty = min(num_dirty, blocks)
        rested = idle(request_id, blocks, 0.0, dirty=num_dirty)
        requests.append(rested if rests else level(request_id, priority, blocks, num_dirty))
    active = PriorityTrace(None).order([each for each in requests if each.idle_since is None])
    return [*[each for each in requests if each.idle_since is not None], *reversed(active)]


@settings(max_examples=300)
@given(RESIDENTS, st.integers(1, 40))
@example([(0, 5, 1, False), (0, 4, 1, False), (0, 4, 1, False)], 5)
def test_enough_nobody_in_vain_and_never_more_to_copy_than_the_lowest_ranked(drawn, num_blocks):
    candidates = make_candidates(drawn)
    lowest = LowestRank().choose(candidates, num_blocks, dirty)
    for choice in CHOICES[1:]:
        chosen = choice.choose(candidates, num_blocks, dirty)
        assert (chosen is None) == (lowest is None) == (total("device_blocks", candidates) < num_blocks)
        if chosen is None:
            continue
        freed = total("device_blocks", chosen)
        assert len(set(ids(chosen))) == len(chosen)
        assert freed >= num_blocks
        assert all(freed - each.device_blocks < num_blocks for each in chosen), "one leaves in vain"
        assert total("dirty_blocks", chosen) <= total("dirty_blocks", lowest)
        # a better-ranked one leaves only where all below it that are no peers were considered first
        active = [each for each in chosen if each.idle_since is None]
        if active and choice is CHOICES[1]:
            best = min(each.priority for each in active)
            below = [each for each in candidates if each.idle_since is not None or each.priority > best]
            assert total("device_blocks", below) < num_blocks


@settings(max_examples=300)
@given(situations(), st.sampled_from(range(len(CHOICES))), st.booleans())
def test_no_choice_breaks_the_rules_of_a_placement(situation, which, steady):
    requests, room = situation
    ranker = Hysteresis(PriorityTrace(None), min_levels=1) if steady else PriorityTrace(None)
    choice = LowestRank() if not which else LeastBytes(ranker.may_preempt)
    ranked = ranker.order([each for each in requests if each.idle_since is None])
    resting = sorted((each for each in requests if each.idle_since is not None), key=lambda each: -each.idle_since)
    ranking = Ranking.of(ranked, resting)
    counted = CountedDirty(requests)
    residency = Residency(
        Ranking.of(counted.of(ranked), counted.of(resting)),
        Insiders.of(Ranking.of(counted.of(ranked), counted.of(resting))),
        room,
        ranker.may_preempt,
        SwapOut(),
        choice,
        64,
    )
    placement = residency.decide()
    by_id = {each.request_id: each for each in requests}
    victims = [by_id[eviction.request_id] for eviction in placement.evictions]
    assert placement.order == ranking.order
    assert all(map(may_leave, victims))
    assert residency._now >= 0
    assert residency._soon >= 0
    for victim in victims:
        if victim.idle_since is not None or victim.request_id in placement.sitting_out:
            continue
        # somebody better-ranked whom the ranker lets push it out wanted room
        better = ranked[: ranked.index(victim)]
        assert any(ranker.may_preempt(each, victim) and (each.blocks_needed or each.device_blocks) for each in better)
    assert all(times <= 1 for times in counted.asked.values()), "each is asked for its dirty blocks once at most"
    if not victims:
        assert not counted.asked, "nobody is where nobody leaves"


class CountedDirty:
    """Hands out requests that count who asks for their dirty blocks, but for the evictor's question."""

    def __init__(self, requests):
        self.asked = {}
        self._by_id = {each.request_id: self._counting(each) for each in requests}

    def of(self, requests):
        return [self._by_id[each.request_id] for each in requests]

    def _counting(self, request):
        asked = self.asked

        class Counting(FakeRequest):
            @property
            def dirty_blocks(self):
                asked[self.request_id] = asked.get(self.request_id, 0) + 1
                return request.dirty_blocks

            @dirty_blocks.setter
            def dirty_blocks(self, value):
                pass

            @property
            def host_blocks_needed(self):
                return request.dirty_blocks

        fields = {name: getattr(request, name) for name in FakeRequest.__dataclass_fields__}
        return Counting(**fields)


def test_a_placement_goes_by_the_choice():
    requests = [waiting(0, 4, priority=0), level(1, 1, 4, 0), level(2, 1, 4, 4)]
    ranker = Hysteresis(PriorityTrace(None), min_levels=1)
    ranking = Ranking.of(ranker.order(requests), [])
    for choice, left in ((LowestRank(), 2), (LeastBytes(ranker.may_preempt), 1)):
        parts = ranking, Insiders.of(ranking), pools(), ranker.may_preempt, SwapOut(), choice, 64
        assert [each.request_id for each in Residency(*parts).decide().evictions] == [left]

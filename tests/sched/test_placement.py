"""The residency decision: one example for each rule, then what holds for any requests and pools."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastswitch.sched import (
    FCFS,
    Eviction,
    EvictionWay,
    Insiders,
    LowestRank,
    PoolView,
    PrefillFirst,
    PriorityTrace,
    Ranking,
    Recompute,
    RequestState,
    Scheduler,
    SwapOut,
)
from fastswitch.sched.residency import Residency
from tests.sched.fakes import FakeRequest, idle, pools, running, swapped, swapping_out, waiting

OUT, AGAIN = EvictionWay.SWAP_OUT, EvictionWay.RECOMPUTE


def place(requests, room, *, evictor=None, ranker=None):
    scheduler = Scheduler(ranker or FCFS(), PrefillFirst(), evictor or SwapOut())
    return scheduler.place(requests, room)


def evicted(placement):
    return [eviction.request_id for eviction in placement.evictions]


class TestOrder:
    def test_is_rank_order_then_idle_longest_idle_last(self):
        requests = [idle(7, 1, 5.0), running(2, 1), idle(8, 1, 9.0), waiting(1, 1), swapped(3, 1)]
        assert place(requests, pools(9)).order == (1, 2, 3, 8, 7)

    def test_nobody_wants_anything(self):
        placement = place([running(0, 2), idle(1, 3, 0.0)], pools())
        assert (placement.order, placement.evictions, placement.unplaced) == ((0, 1), (), ())


class TestWhoCameInAtOnce:
    def test_free_and_clean_room_is_room_now(self):
        placement = place([waiting(0, 2), swapped(1, 1)], pools(free=1, clean=2))
        assert (placement.admissions, placement.swap_ins, placement.unplaced) == ((0,), (1,), ())

    def test_own_clean_blocks_of_an_evicted_request_are_part_of_the_room(self):
        assert place([swapped(0, 0, device_blocks=3)], pools(clean=3)).swap_ins == (0,)
        assert place([swapped(0, 1, device_blocks=3)], pools(clean=3)).swap_ins == ()

    def test_rule_1_the_whole_prompt_must_fit(self):
        assert place([waiting(0, 4)], pools(free=3)).unplaced == (0,)
        assert place([waiting(0, 4)], pools(free=4)).admissions == (0,)

    def test_room_that_must_be_vacated_first_is_waited_for(self):
        placement = place([waiting(0, 4)], pools(free=1, vacating=3))
        assert (placement.admissions, placement.unplaced, placement.evictions) == ((), (0,), ())

    def test_who_is_coming_in_is_left_alone(self):
        coming = FakeRequest(0, RequestState.SWAPPING_IN, device_blocks=4)
        placement = place([coming, waiting(1, 1)], pools())
        assert (placement.evictions, placement.unplaced) == ((), (1,))


class TestRule2:
    """A waiting request may preempt; nobody takes what is vacated for a better-ranked one."""

    def test_waiting_pushes_out_a_lower_rank(self):
        placement = place([waiting(0, 2), running(1, 3)], pools())
        assert placement.evictions == (Eviction(1, OUT),)
        assert (placement.admissions, placement.unplaced) == ((), (0,))

    def test_a_clean_victim_gives_room_at_once(self):
        placement = place([waiting(0, 2), running(1, 3, dirty=0)], pools())
        assert (evicted(placement), placement.admissions) == ([1], (0,))

    def test_never_a_higher_rank(self):
        placement = place([running(0, 3), waiting(1, 2)], pools())
        assert (placement.evictions, placement.unplaced) == ((), (1,))

    def test_never_a_higher_rank_even_where_the_ranker_would_allow_it(self):
        class Eager(FCFS):
            def may_preempt(self, challenger, holder):
                return True

        assert place([running(0, 3), waiting(1, 2)], pools(), ranker=Eager()).evictions == ()

    def test_only_as_many_as_needed_lowest_first(self):
        placement = place([waiting(0, 3), running(1, 2), running(2, 2), running(3, 2)], pools())
        assert evicted(placement) == [3, 2]

    def test_idle_ones_first_longest_idle_first_whoever_asks(self):
        requests = [running(0, 2), waiting(1, 4), idle(2, 2, 8.0), idle(3, 2, 5.0), idle(4, 2, 9.0)]
        assert evicted(place(requests, pools())) == [3, 2]
        requests = [waiting(1, 4), idle(0, 2, 8.0), running(2, 2), running(3, 2)]
        assert evicted(place(requests, pools())) == [0, 3]

    def test_nobody_in_vain(self):
        placement = place([waiting(0, 6), running(1, 2), running(2, 3)], pools())
        assert (placement.evictions, placement.unplaced) == ((), (0,))

    def test_lower_rank_does_not_take_what_a_higher_one_claims(self):
        # 0 claims the 2 free blocks and 2 of the vacating ones
        placement = place([waiting(0, 4), waiting(1, 2)], pools(free=2, vacating=3))
        assert (placement.admissions, placement.unplaced) == ((), (0, 1))
        placement = place([waiting(0, 4), waiting(1, 2), waiting(2, 1)], pools(free=7))
        assert placement.admissions == (0, 1, 2)

    def test_what_is_claimed_of_the_room_to_come_is_not_counted_twice(self):
        placement = place([waiting(0, 3), waiting(1, 2), running(2, 2)], pools(vacating=3))
        assert (evicted(placement), placement.unplaced) == ([2], (0, 1))

    def test_growth_of_a_lower_rank_does_not_either(self):
        placement = place([waiting(0, 3), running(1, 2, 1, protected=True)], pools(free=1, vacating=3))
        assert (placement.sitting_out, placement.unplaced) == ({1}, (0,))

    def test_who_is_on_the_way_out_and_ranks_high_again_gets_its_blocks_back(self):
        placement = place([swapping_out(0, 1, device_blocks=3), waiting(1, 2)], pools(free=2, vacating=3))
        assert (placement.unplaced, placement.admissions) == ((0, 1), ())
        placement = place([swapping_out(0, 1, device_blocks=3), waiting(1, 2)], pools(free=3, vacating=3))
        assert (placement.unplaced, placement.admissions) == ((0,), (1,))

    def test_who_is_on_the_way_out_and_lacks_room_blocks_admission(self):
        # 0 will want 5 blocks; pushing 2 out for 1 would leave 0 without
        requests = [swapping_out(0, 2, device_blocks=3), waiting(1, 3), running(2, 4)]
        placement = place(requests, pools(vacating=3))
        assert (placement.unplaced, placement.evictions) == ((0, 1), ())

    def test_the_first_without_room_blocks_admission_behind_it(self):
        requests = [waiting(0, 6), waiting(1, 1), swapped(2, 1), running(3, 1)]
        placement = place(requests, pools(free=2))
        assert (placement.admissions, placement.swap_ins, placement.unplaced) == ((), (), (0, 1, 2))

    def test_residents_behind_it_stay_and_grow(self):
        placement = place([waiting(0, 6), running(1, 1, 1)], pools(free=2))
        assert (placement.evictions, placement.sitting_out) == ((), frozenset())

    def test_a_ranker_may_forbid_preemption(self):
        class Polite(FCFS):
            def may_preempt(self, challenger, holder):
                return False

        requests = [waiting(0, 2), running(1, 3), idle(2, 1, 0.0)]
        assert place(requests, pools(), ranker=Polite()).evictions == ()
        assert evicted(place(requests, pools(free=1), ranker=Polite())) == [2]


class TestRule3:
    """Who came in stays until it has made a productive step."""

    def test_protected_stays(self):
        placement = place([waiting(0, 2), running(1, 3, protected=True)], pools())
        assert (placement.evictions, placement.unplaced) == ((), (0,))

    def test_the_next_one_goes_instead(self):
        placement = place([waiting(0, 2), running(1, 3), running(2, 3, protected=True)], pools())
        assert evicted(placement) == [1]

    def test_an_idle_one_has_no_step_to_make(self):
        """Its turn was cancelled before the first step: it would hold its room for ever."""
        assert evicted(place([waiting(0, 2), idle(1, 3, 0.0, protected=True)], pools())) == [1]


class TestRule4:
    """Growth is allocated in rank order; who cannot grow sits out, the lowest-ranked unprotected one leaves."""

    def test_in_rank_order(self):
        placement = place([running(1, 2, 1, protected=True), running(0, 2, 1)], pools(free=1))
        assert (placement.sitting_out, placement.evictions) == ({1}, ())

    def test_grower_pushes_out_the_lowest_and_waits_for_its_copy(self):
        placement = place([running(0, 2, 1), running(1, 2), running(2, 2)], pools())
        assert (evicted(placement), placement.sitting_out) == ([2], {0})

    def test_grower_goes_on_when_the_victim_is_clean(self):
        placement = place([running(0, 2, 1), running(1, 2, dirty=0)], pools())
        assert (evicted(placement), placement.sitting_out) == ([1], frozenset())

    def test_the_lowest_leaves_itself(self):
        placement = place([running(0, 2), running(1, 2, 1)], pools())
        assert (evicted(placement), placement.sitting_out) == ([1], {1})

    def test_the_lowest_unprotected_one_leaves_itself(self):
        placement = place([running(0, 2, 1), running(1, 2, 1, protected=True)], pools())
        assert evicted(placement) == [0]
        # 1 grows into what 0 leaves
        assert placement.sitting_out == {0, 1}

    def test_one_that_is_not_the_lowest_stays(self):
        placement = place([running(0, 2, 5), running(1, 1), running(2, 1)], pools())
        assert (placement.evictions, placement.sitting_out) == ((), {0})

    def test_who_cannot_grow_blocks_admission(self):
        placement = place([running(0, 2, 3, protected=True), waiting(1, 1)], pools(free=2))
        assert (placement.sitting_out, placement.unplaced) == ({0}, (1,))

    def test_a_victim_is_not_asked_to_grow(self):
        placement = place([waiting(0, 2), running(1, 2, 1), running(2, 2, 1)], pools(free=1))
        assert (evicted(placement), placement.sitting_out) == ([2], {1})


class TestRule6:
    """Host full: victims are recomputed."""

    def test_the_host_room_is_shared_by_the_victims(self):
        placement = place([waiting(0, 6), running(1, 3), running(2, 3)], pools(host_free=4))
        assert placement.evictions == (Eviction(2, OUT), Eviction(1, AGAIN))

    def test_a_victims_own_copy_is_no_room_for_itself(self):
        requests = [waiting(0, 3), running(1, 3, dirty=2, host_blocks=4)]
        assert place(requests, pools(host_free=5)).evictions == (Eviction(1, AGAIN),)
        assert place(requests, pools(host_free=6)).evictions == (Eviction(1, OUT),)

    def test_nor_for_the_next_victim(self):
        requests = [waiting(0, 6), running(1, 3), running(2, 3, dirty=2, host_blocks=4)]
        assert place(requests, pools(host_free=8)).evictions == (Eviction(2, OUT), Eviction(1, AGAIN))
        assert place(requests, pools(host_free=9)).evictions == (Eviction(2, OUT), Eviction(1, OUT))

    def test_a_clean_victim_is_not_dropped_for_room_that_others_were_promised(self):
        requests = [waiting(0, 6), running(1, 3, dirty=0, host_blocks=3), running(2, 3, dirty=2)]
        assert place(requests, pools(host_free=4)).evictions == (Eviction(2, OUT), Eviction(1, OUT))

    def test_a_recomputed_victim_gives_room_at_once(self):
        placement = place([waiting(0, 3), running(1, 3)], pools(host_free=2))
        assert (placement.evictions, placement.admissions) == ((Eviction(1, AGAIN),), (0,))

    def test_recompute_evictor_never_copies(self):
        placement = place([waiting(0, 3), running(1, 3)], pools(), evictor=Recompute())
        assert (placement.evictions, placement.admissions) == ((Eviction(1, AGAIN),), (0,))


class TestRule7:
    """Who returns with something to copy need not wait until a victim's copy has landed: its own may come after it."""

    def test_whose_room_is_being_vacated_comes_early(self):
        placement = place([swapped(0, 4, missing_blocks=4)], pools(free=1, vacating=3))
        assert (placement.early, placement.swap_ins, placement.passed_over) == ((0,), (), ())
        assert (placement.unplaced, placement.leaves_waiting) == ((), False)

    def test_so_does_whose_victims_are_dirty(self):
        placement = place([swapped(0, 4, missing_blocks=4), running(1, 4)], pools())
        assert (placement.evictions, placement.early) == ((Eviction(1, OUT),), (0,))
        assert (placement.swap_ins, placement.unplaced) == ((), ())

    def test_whose_victims_are_clean_comes_as_ever(self):
        placement = place([swapped(0, 4, missing_blocks=4), running(1, 4, dirty=0)], pools())
        assert (placement.swap_ins, placement.early) == ((0,), ())

    def test_an_admission_has_no_copy_that_could_wait_so_it_is_passed_over_itself(self):
        placement = place([waiting(0, 4), running(1, 4)], pools())
        assert (placement.early, placement.passed_over) == ((), (0,))

    def test_nor_has_a_return_with_nothing_to_copy(self):
        placement = place([swapped(0, 1, device_blocks=3), running(1, 4)], pools(clean=3))
        assert (evicted(placement), placement.early, placement.passed_over) == ([1], (), (0,))

    def test_nor_has_one_whose_own_copy_out_is_under_way(self):
        placement = place([swapping_out(0, 1, device_blocks=3)], pools(free=1, vacating=3))
        assert (placement.early, placement.passed_over) == ((), (0,))

    def test_a_lower_rank_is_given_no_early_room_that_was_promised_to_a_higher_one(self):
        vacated = [swapped(0, 3, missing_blocks=3), swapped(1, 2, missing_blocks=2)]
        placement = place(vacated, pools(vacating=4))
        assert (placement.early, placement.unplaced) == ((0,), (1,))
        placement = place(vacated, pools(vacating=5))
        assert (placement.early, placement.unplaced) == ((0, 1), ())

    def test_nor_what_an_admission_of_a_higher_rank_waits_for(self):
        placement = place([waiting(0, 3), swapped(1, 2, missing_blocks=2)], pools(vacating=4))
        assert (placement.early, placement.unplaced) == ((), (0, 1))
        placement = place([waiting(0, 3), swapped(1, 2, missing_blocks=2)], pools(vacating=5))
        assert (placement.early, placement.unplaced) == ((1,), (0,))

    def test_nor_free_room_that_one_who_comes_early_was_promised(self):
        placement = place([swapped(0, 4, missing_blocks=4), waiting(1, 1)], pools(free=2, vacating=2))
        assert (placement.early, placement.admissions, placement.unplaced) == ((0,), (), (1,))

    def test_best_first(self):
        requests = [running(3, 6), *(swapped(i, 2, missing_blocks=2) for i in (2, 0, 1))]
        placement = place(requests, pools(free=1))
        assert (evicted(placement), placement.early) == ([3], (0, 1, 2))

    def test_it_takes_the_links_time_like_any_other_return(self):
        requests = [swapped(i, 2, missing_blocks=2) for i in (0, 1)]
        placement = place(requests, pools(vacating=4, copy_in=2))
        assert (placement.early, placement.unplaced) == ((0,), (1,))
        assert place(requests, pools(vacating=4, copy_in=0)).early == ()


class TestPinned:
    """Whose KV is being copied ahead neither leaves nor comes until that has landed."""

    def test_it_is_no_victim(self):
        placement = place([waiting(0, 2), running(1, 3, pinned=True)], pools())
        assert (placement.evictions, placement.unplaced) == ((), (0,))
        assert evicted(place([waiting(0, 2), running(1, 3), running(2, 3, pinned=True)], pools())) == [1]

    def test_nor_when_it_idles(self):
        requests = [waiting(0, 2), idle(1, 3, 0.0), idle(2, 3, 5.0, pinned=True), running(3, 2)]
        assert evicted(place(requests, pools())) == [1]

    def test_nor_when_it_cannot_grow_itself(self):
        placement = place([running(0, 2), running(1, 2, 1, pinned=True)], pools())
        assert (evicted(placement), placement.sitting_out) == ([], {1})

    def test_it_does_not_come_and_claims_its_room_all_the_same(self):
        coming = swapped(0, 2, device_blocks=2, missing_blocks=0, pinned=True)
        placement = place([coming, waiting(1, 2)], pools(free=5))
        assert (placement.swap_ins, placement.early, placement.passed_over) == ((), (), (0,))
        assert (placement.admissions, placement.unplaced) == ((), (0, 1))  # 4 of 5 are promised
        placement = place([coming, waiting(1, 2)], pools(free=6))
        assert (placement.admissions, placement.unplaced) == ((1,), (0,))

    def test_nor_early(self):
        placement = place([swapped(0, 2, missing_blocks=2, pinned=True), running(1, 2)], pools())
        assert (placement.early, placement.swap_ins, placement.passed_over) == ((), (), (0,))


# On any requests and pools

STATES = [*RequestState][:-1]  # all but FINISHED


@st.composite
def situations(draw):
    """Requests, best first by id but for their levels, with pools that agree with them."""
    requests = []
    for request_id in range(draw(st.integers(1, 9))):
        state = draw(st.sampled_from(STATES))
        holds = state is not RequestState.WAITING
        device_blocks = draw(st.integers(0 if state is RequestState.SWAPPED else 1, 5)) if holds else 0
        growth = draw(st.sampled_from([0, 0, 1, 1, 4])) if state is RequestState.RUNNING else draw(st.integers(0, 6))
        request = FakeRequest(request_id, state, growth, device_blocks, priority=draw(st.integers(0, 3)))
        request.dirty_blocks = draw(st.integers(0, device_blocks))
        request.protected = draw(st.integers(0, 3)) == 0
        request.missing_blocks = draw(st.integers(0, 4)) if state is RequestState.SWAPPED else 0
        may_be_pinned = state in (RequestState.RUNNING, RequestState.IDLE, RequestState.SWAPPED)
        request.pinned = may_be_pinned and draw(st.integers(0, 4)) == 0
        if state is RequestState.IDLE or (holds and state is not RequestState.RUNNING and draw(st.booleans())):
            request.idle_since, request.blocks_needed = draw(st.floats(0, 9)), 0
        requests.append(request)
    held = {state: sum(r.device_blocks for r in requests if r.state is state) for state in STATES}
    room = PoolView(
        free=draw(st.integers(0, 8)),
        clean=held[RequestState.SWAPPED] + draw(st.integers(0, 2)),
        vacating=held[RequestState.SWAPPING_OUT] + draw(st.integers(0, 2)),
        host_free=draw(st.integers(0, 12)),
    )
    return requests, room


def need(request):
    """What a request must be able to have at its turn in the walk."""
    if request.state in (RequestState.SWAPPED, RequestState.SWAPPING_OUT):
        return request.blocks_needed + request.device_blocks
    return 0 if request.state is RequestState.SWAPPING_IN else request.blocks_needed


def decide(requests, room):
    ranker = PriorityTrace(None)
    ranked = ranker.order([r for r in requests if r.idle_since is None])
    resting = sorted((r for r in requests if r.idle_since is not None), key=lambda r: -r.idle_since)
    ranking = Ranking.of(ranked, resting)
    residency = Residency(ranking, Insiders.of(ranking), room, ranker.may_preempt, SwapOut(), LowestRank(), 64)
    return residency, residency.decide(), ranked, resting


def may_leave(request):
    resident = request.state in (RequestState.RUNNING, RequestState.IDLE)
    return resident and not request.pinned and (request.idle_since is not None or not request.protected)


@settings(max_examples=600)
@given(situations())
@example(([swapping_out(0, 2, 3), waiting(1, 3), running(2, 4)], pools(vacating=3)))
def test_placement_keeps_its_rules(situation):
    requests, room = situation
    residency, placement, ranked, resting = decide(requests, room)
    by_id = {request.request_id: request for request in requests}
    victims = [by_id[eviction.request_id] for eviction in placement.evictions]
    started = [by_id[r] for r in (*placement.swap_ins, *placement.admissions)]
    gone = {victim.request_id for victim in victims}
    rank = {request.request_id: i for i, request in enumerate([*ranked, *resting])}
    grown = [r for r in ranked if r.state is RequestState.RUNNING and r.request_id not in gone | placement.sitting_out]

    # everyone has one place
    assert placement.order == tuple(rank)
    assert len(gone) == len(victims)
    wanting = [r for r in ranked if r.state in (RequestState.WAITING, RequestState.SWAPPED, RequestState.SWAPPING_OUT)]
    started_ids = [r.request_id for r in started]
    assert sorted(r.request_id for r in wanting) == sorted([*started_ids, *placement.early, *placement.unplaced])
    assert placement.leaves_waiting == bool(placement.unplaced)
    for ids in (placement.swap_ins, placement.early, placement.admissions, placement.unplaced):
        assert all(rank[a] < rank[b] for a, b in pairwise(ids))

    # only who may leave leaves, idle ones first, then lowest rank first
    assert all(may_leave(victim) for victim in victims)
    for victim in victims:
        behind = [r for r in requests if may_leave(r) and rank[r.request_id] > rank[victim.request_id]]
        assert {r.request_id for r in behind} <= gone
    # nobody ranks below its victim
    for victim in victims:
        if victim.idle_since is None and victim.request_id not in placement.sitting_out:
            better = ranked[: rank[victim.request_id]]
            assert any(need(r) for r in better if r.request_id not in gone)

    # what starts fits into what is there now
    at_once = [
        by_id[e.request_id] for e in placement.evictions if e.way is AGAIN or not by_id[e.request_id].dirty_blocks
    ]
    now = room.free + room.clean + sum(victim.device_blocks for victim in at_once)
    assert sum(map(need, [*started, *grown])) <= now

    # claims never exceed the room, and a request starts only behind claims that are met in full
    total = room.free + room.clean + room.vacating + sum(victim.device_blocks for victim in victims)
    assert residency._now >= 0
    assert residency._soon >= 0
    early = [by_id[r] for r in placement.early]
    for request in (*started, *early):
        better = [r for r in ranked[: rank[request.request_id] + 1] if r.request_id not in gone]
        assert sum(map(need, better)) <= total

    # early come those whose copies can be told to wait, for what nobody else was given
    assert all(r.state is RequestState.SWAPPED and r.missing_blocks and not r.pinned for r in early)
    assert not any(request.pinned for request in started)
    assert sum(map(need, [*started, *grown, *early])) <= total

    # nobody is evicted in vain: without the last victim the claims would not be met
    if victims and victims[-1].request_id not in placement.sitting_out:
        claimed = total - residency._now - residency._soon
        assert claimed > total - victims[-1].device_blocks

    # copies out fit on the host
    copied = sum(by_id[e.request_id].dirty_blocks for e in placement.evictions if e.way is OUT)
    assert copied <= room.host_free


@given(situations())
def test_admission_stops_behind_the_first_that_finds_no_room(situation):
    requests, room = situation
    _, placement, ranked, _ = decide(requests, room)
    started = {*placement.swap_ins, *placement.admissions}
    most = room.free + room.clean + room.vacating + sum(r.device_blocks for r in requests if may_leave(r))
    for i, request in enumerate(ranked):
        if request.request_id in placement.unplaced and need(request) > most:
            assert started.isdisjoint(r.request_id for r in ranked[i:])


@given(situations())
def test_the_best_ranked_starts_where_there_is_room_for_it(situation):
    requests, room = situation
    _, placement, ranked, _ = decide(requests, room)
    if ranked and ranked[0].state in (RequestState.WAITING, RequestState.SWAPPED):
        if need(ranked[0]) <= room.free + room.clean:
            assert (ranked[0].request_id in placement.unplaced) == ranked[0].pinned
            assert ranked[0].request_id not in placement.early
            return
        most = room.free + room.clean + sum(r.device_blocks for r in requests if may_leave(r))
        assert need(ranked[0]) <= most or ranked[0].request_id in (*placement.unplaced, *placement.early)


# The link's time


def test_the_first_return_that_the_link_has_no_time_for_blocks_admission_and_pushes_nobody_out():
    requests = [swapped(0, 4, missing_blocks=4), swapped(1, 4, missing_blocks=4), waiting(2, 1), running(3, 8)]
    placement = place(requests, pools(free=4, copy_in=4))
    assert (placement.swap_ins, placement.evictions, placement.unplaced) == ((0,), (), (1, 2))
    assert place(requests, pools(free=4, copy_in=5)).evictions == (Eviction(3, OUT),), (
        "a little time left is enough to begin"
    )


def test_what_needs_no_copy_needs_no_time_of_the_link():
    requests = [swapped(0, 0, device_blocks=4), swapped(1, 4, missing_blocks=4), waiting(2, 1)]
    placement = place(requests, pools(free=8, clean=4, copy_in=0))
    assert (placement.swap_ins, placement.unplaced) == ((0,), (1, 2))
    assert place(requests, pools(free=8, clean=4)).swap_ins == (0, 1), "None: any number"

"""The two fair rankers: whose turn it is, and who may push out whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import VTC, PreemptiveVTC, RequestState, ServiceCounters
from tests.sched.fakes import FakeRequest, running, swapped, waiting


def of(client_id, request_id, prompt=10, **fields):
    return waiting(request_id, 1, client_id=client_id, num_prompt_tokens=prompt, **fields)


def ids(requests):
    return [request.request_id for request in requests]


def take_up(ranker, request):
    ranker.arrived(request)
    ranker.admitted(request, request.num_prompt_tokens)
    request.admitted = True


def order(ranker, requests, *, new=None):
    """Ids in order, when ``new`` ones, or all, have arrived; the prompts of those admitted cost nothing."""
    for request in requests if new is None else new:
        if request.admitted:
            request.num_prompt_tokens = 0
            take_up(ranker, request)
        else:
            ranker.arrived(request)
    return ids(ranker.order(requests))


def published_loop(requests, counters):
    """Algorithm 2's inner loop, word for word, with memory for all."""
    queue, now, order = sorted(requests, key=lambda r: (r.arrival, r.request_id)), dict(counters), []
    while queue:
        # among equals whose earliest request is earlier
        first = {}
        for request in queue:
            first.setdefault(request.client_id, request)
        chosen = min(first.values(), key=lambda r: (now[r.client_id], r.arrival, r.request_id))
        now[chosen.client_id] += chosen.num_prompt_tokens
        queue.remove(chosen)
        order.append(chosen.request_id)
    return order


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 5)), max_size=12),
    st.fixed_dictionaries({client: st.integers(0, 60) for client in "abc"}),
)
def test_the_order_is_that_of_the_published_loop(drawn, served):
    requests = [of(client, i, prompt, arrival=float(when)) for i, (client, prompt, when) in enumerate(drawn)]
    vtc = VTC()
    for client, tokens in served.items():
        vtc.counters.charge_input(client, tokens)
    arrived = order(vtc, requests)  # arrivals may lift, so the loop starts from what they left
    assert arrived == published_loop(requests, served | vtc.counters.values)


class TestVTC:
    def test_those_taken_up_stay_in_front_whatever_their_counters_say(self):
        vtc = VTC()
        hog = running(5, 1, client_id="hog", num_prompt_tokens=10)
        take_up(vtc, hog)
        vtc.charge(hog, 10, 1000)
        newcomer = of("shy", 6)
        vtc.arrived(newcomer)
        assert ids(vtc.order([newcomer, hog])) == [5, 6]
        assert not vtc.may_preempt(newcomer, hog)

    def test_a_growing_one_pushes_out_only_who_was_taken_up_later(self):
        vtc = VTC()
        first, second = (running(i, 1, client_id=i, arrival=float(9 - i)) for i in (0, 1))
        take_up(vtc, first)
        take_up(vtc, second)
        assert vtc.may_preempt(first, second)
        assert not vtc.may_preempt(second, first)
        first.state = swapped(0, 1).state
        assert not vtc.may_preempt(first, second)  # it waits until there is room

    def test_one_that_stayed_on_the_device_pushes_nobody_out_before_its_turn_is_taken_up(self):
        vtc = VTC()
        before, back = running(0, 1, client_id="a"), running(1, 1, client_id="b", num_prompt_tokens=10)
        take_up(vtc, before)
        vtc.arrived(back)  # a new turn of a conversation that was not pushed out between two
        assert not vtc.may_preempt(back, before)
        assert vtc.may_preempt(before, back)

    def test_it_is_due_while_anybody_waits(self):
        vtc, request = VTC(), of("a", 0)
        assert not vtc.is_due(7)
        vtc.arrived(request)
        assert vtc.is_due(7)
        vtc.admitted(request, 10)
        assert not vtc.is_due(8)

    def test_a_turn_that_is_cancelled_in_the_queue_leaves_it_and_costs_nothing(self):
        vtc, request = VTC(), of("a", 0)
        vtc.arrived(request)
        vtc.ended(request)
        assert (vtc.counters.value("a"), vtc.is_due(0)) == (0, False)

    def test_one_that_ends_after_it_was_taken_up_leaves_the_queue_once(self):
        vtc, request, other = VTC(), of("a", 0), of("a", 1)
        take_up(vtc, request)
        vtc.arrived(other)
        vtc.ended(request)
        assert vtc.is_due(0)

    def test_one_that_its_user_holds_off_is_not_in_the_queue(self):
        vtc = VTC()
        held, busy = of("held", 0), of("busy", 1)
        vtc.arrived(held)
        vtc.arrived(busy)
        vtc.suspended(held)
        vtc.charge(busy, 0, 50)
        vtc.arrived(of("new", 2))
        assert vtc.counters.value("new") == 100, "lifted to the one that waits, not to the one that does not"
        vtc.resumed(held)
        assert vtc.counters.value("held") == 100, "a pause saves up no claim"
        vtc.suspended(held)
        vtc.ended(held)
        assert set(vtc.counters.present) == {"busy", "new"}

    def test_recomputed_tokens_are_nobodys_service(self):
        vtc = VTC()
        request = of("a", 0, prompt=10)
        take_up(vtc, request)
        vtc.charge(request, 10, 1)  # the prompt, when it is computed: it was charged at admission
        assert vtc.counters.value("a") == 10 + 2


class TestPreemptiveVTC:
    def served(self, **tokens):
        ranker = PreemptiveVTC(horizon=8)
        for client, number in tokens.items():
            ranker.counters.charge_output(client, number)
        return ranker

    def resident(self, client_id, request_id):
        return running(request_id, 1, client_id=client_id, num_prompt_tokens=10, admitted=True)

    def test_who_is_behind_comes_first_and_may_push_out(self):
        ranker = self.served(ahead=100, behind=80)
        holder, challenger = self.resident("ahead", 0), swapped(1, 1, client_id="behind", admitted=True)
        assert order(ranker, [holder, challenger]) == [1, 0]
        assert ranker.may_preempt(challenger, holder)
        assert not ranker.may_preempt(holder, challenger)

    def test_not_by_less_than_the_lead(self):
        ranker = self.served(ahead=100, behind=93)  # 14 weighted tokens apart, the lead is 2 * 8
        holder, challenger = self.resident("ahead", 0), swapped(1, 1, client_id="behind", admitted=True)
        order(ranker, [holder, challenger])
        assert not ranker.may_preempt(challenger, holder)
        challenger.state = holder.state  # but so that one that runs can grow
        assert ranker.may_preempt(challenger, holder)

    @pytest.mark.parametrize("weight", [1.0, 0.01, 1000.0])
    def test_the_lead_is_a_horizon_whatever_the_scale_of_the_weights(self, weight):
        ranker = PreemptiveVTC(ServiceCounters(weights={"ahead": weight, "behind": weight}), horizon=8)
        holder, challenger = self.resident("ahead", 0), swapped(1, 1, client_id="behind", admitted=True)
        order(ranker, [holder, challenger])
        ranker.counters.charge_output("ahead", 7)
        ranker.order([holder, challenger])
        assert not ranker.may_preempt(challenger, holder)
        ranker.counters.charge_output("ahead", 1.001)  # beyond what is lost by rounding
        ranker.order([holder, challenger])
        assert ranker.may_preempt(challenger, holder)

    def test_one_more_on_the_device_for_each_horizon_behind(self):
        ranker = self.served(a=100, b=84)  # behind by 32 = 2 horizons of 16
        requests = [self.resident("a", 0), self.resident("a", 1)]
        requests += [swapped(i, 1, client_id="b", admitted=True) for i in (2, 3, 4)]
        # claims: a 200, 216; b 168, 184, 200
        assert order(ranker, requests) == [2, 3, 0, 4, 1]

    def test_a_prompt_counts_once_it_is_to_be_computed(self):
        ranker = self.served()
        requests = [of("a", 0, prompt=100), of("a", 1), of("b", 2), of("b", 3)]
        # claims: a 0, 116; b 0, 26
        assert order(ranker, requests) == [0, 2, 3, 1]

    def test_and_not_again_once_it_was_charged(self):
        ranker = self.served()
        first, second, other = of("a", 0, prompt=100), of("a", 1), of("b", 2)
        order(ranker, [first, second, other])
        ranker.admitted(first, 100)
        first.admitted, first.state = True, self.resident("a", 0).state
        # claims: a 100, 116, not 216; b 0
        assert ids(ranker.order([first, second, other])) == [2, 0, 1]
        assert ranker._claims == {2: 0, 0: 100, 1: 116}

    def test_who_had_all_it_wanted_is_lifted_when_it_wants_more(self):
        ranker = self.served(busy=50)
        content, wanting = self.resident("content", 0), of("busy", 1)
        order(ranker, [content, wanting])
        assert ranker.counters.value("content") == 0
        more = of("content", 2)
        order(ranker, [content, wanting, more], new=[more])
        assert ranker.counters.value("content") == 100

    def test_who_has_been_wanting_keeps_its_claim(self):
        ranker = self.served(busy=50)
        patient, wanting = swapped(0, 1, client_id="patient", admitted=True), of("busy", 1)
        more = of("patient", 2)
        order(ranker, [patient])
        order(ranker, [patient, wanting], new=[wanting])
        order(ranker, [patient, wanting, more], new=[more])
        assert ranker.counters.value("patient") == 0

    def test_the_order_is_made_anew_once_a_horizon(self):
        ranker = PreemptiveVTC(horizon=4)
        due = []
        for iteration in range(9):
            if ranker.is_due(iteration):
                due.append(iteration)
                ranker.new_levels([], iteration)
        assert due == [4, 8]

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({"horizon": 0}, "horizon must be at least 1 token, got 0"),
            ({"lead": -1.0}, "lead must be at least 0 weighted tokens, got -1.0"),
        ],
    )
    def test_bad_arguments(self, arguments, why):
        with pytest.raises(ValueError, match="must be at least") as error:
            PreemptiveVTC(**arguments)
        assert str(error.value) == why

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=10), st.integers(0, 200))
    def test_nobody_comes_in_for_a_better_one(self, drawn, served):
        ranker = PreemptiveVTC(ServiceCounters(), horizon=4)
        ranker.counters.charge_output("a", served)
        make = {True: self.resident, False: lambda client, i: of(client, i)}
        requests: list[FakeRequest] = [make[inside](client, i) for i, (client, inside) in enumerate(drawn)]
        ranked = [requests[i] for i in order(ranker, requests)]
        for position, better in enumerate(ranked):
            for worse in ranked[position + 1 :]:
                assert worse.state is RequestState.RUNNING or not ranker.may_preempt(worse, better)

"""Skip-join MLFQ: the paper's rules worked by hand, then what holds whatever is served."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fastswitch.sched import MLFQ
from tests.sched.driver import Driver
from tests.sched.fakes import waiting

DECODE = (0, 1)  # what an iteration gives: no prompt, one token


def make(num_queues=3, **options):
    """A token of a prompt takes a second, and so does a decode: quanta of 1 s, 2 s, without end."""
    return Driver(MLFQ(float, 1.0, num_queues=num_queues, **options))


class TestByHand:
    def test_skip_join_with_three_queues(self):
        """Prompts of 1, 2, 3 and 50 s: the first fits the quantum of 1 s, the second that of 2 s, the rest neither."""
        driver = make()
        for request_id, length in enumerate((50, 2, 3, 1)):
            driver.arrive(request_id, length)
        assert driver.queues() == {0: 2, 1: 1, 2: 2, 3: 0}
        assert driver.look() == [3, 1, 0, 2], "first come, first served within the last queue"

    def test_demotion_by_quantum_over_several_iterations(self):
        """Quanta of 1, 2, 4 and no end. The prompt of 3 s joins the third queue, uses 3 of its 4 s, then decodes."""
        driver = make(num_queues=4)
        driver.arrive(0, 3)
        driver.arrive(1, 1)
        assert driver.queues() == {0: 2, 1: 0}
        driver.step((0, 3, 1), (1, 1, 1))  # a first token comes with its prompt
        assert driver.queues() == {0: 2, 1: 1}, "1 has used its 1 s; 0 has 1 s left"
        driver.step((0, *DECODE), (1, *DECODE))
        assert driver.queues() == {0: 3, 1: 1}, "0 has used 4 s; 1 has used 1 s of 2"
        driver.step((1, *DECODE))
        assert driver.queues() == {0: 3, 1: 2}
        for used in range(1, 5):
            driver.step((1, *DECODE), (0, *DECODE))
            assert driver.queues() == {0: 3, 1: 2 if used < 4 else 3}
        for _ in range(50):
            driver.step((0, *DECODE), (1, *DECODE))
        assert driver.queues() == {0: 3, 1: 3}, "the last queue has no end"

    def test_a_prompt_longer_than_the_first_quanta_that_was_promoted_goes_down_one_queue_at_a_time(self):
        driver = make(num_queues=4, starving_iterations=5)
        driver.arrive(0, 7)
        driver.arrive(1, 1)
        assert driver.queues() == {0: 3, 1: 0}
        for _ in range(5):
            driver.step((1, *DECODE))
        assert driver.queues()[0] == 0
        driver.step((0, 7, 1))  # one iteration cannot be broken off: it takes 7 s of a quantum of 1
        assert driver.queues()[0] == 1, "with a whole quantum: what it used beyond is forgiven"
        driver.step((0, *DECODE))
        assert driver.queues()[0] == 1
        driver.step((0, *DECODE))
        assert driver.queues()[0] == 2

    def test_promotion_at_iteration_1000(self):
        driver = make()
        driver.arrive(0, 9)
        driver.arrive(1, 9)
        for _ in range(7):
            driver.step((1, 1, 0))
        for _ in range(992):
            driver.step()
        assert driver.queues() == {0: 2, 1: 2}
        driver.step()  # the thousandth
        assert driver.queues() == {0: 0, 1: 2}
        assert driver.look() == [0, 1]
        for _ in range(7):
            driver.step()
        assert driver.queues() == {0: 0, 1: 0}, "1 was served last in iteration 7"
        assert driver.look() == [0, 1]


def test_a_starving_turn_is_promoted_again_a_thousand_iterations_after_its_next_service():
    driver = make(starving_iterations=10)
    driver.arrive(0, 9)
    for iteration in range(60):
        queue = driver.queues()[0]
        # up at 10, one second of the quantum of 1 s at 11 takes it down, and so on every 11 iterations
        assert queue == (0 if iteration and iteration % 11 == 10 else 2 if iteration < 10 else 1), iteration
        driver.step(*([(0, 1, 0)] if queue == 0 else []))


def test_a_prompt_in_pieces_costs_what_it_costs_whole():
    """The profile has a part that does not grow: it is not charged for each piece."""
    driver = Driver(MLFQ(lambda n: 3.0 + n, 1.0, num_queues=5))  # 1, 2, 4, 8 s
    driver.arrive(0, 5)
    assert driver.queues() == {0: 3}
    for _ in range(4):
        driver.step((0, 1, 0))
    assert driver.queues() == {0: 3}
    driver.step((0, 1, 1))
    assert driver.queues() == {0: 4}, "8 s, to the second"


def test_what_is_computed_again_is_neither_charged_nor_a_service():
    driver = make(starving_iterations=10)
    driver.arrive(0, 2)
    for _ in range(9):
        driver.step((0, 0, 0))
        assert driver.queues() == {0: 1}
    driver.step((0, 0, 0))
    assert driver.queues() == {0: 0}


def test_a_turn_that_follows_joins_anew():
    driver = make()
    driver.arrive(0, 50)
    assert driver.queues() == {0: 2}
    driver.step((0, 50, 1))
    driver.end(0)
    driver.step()
    assert driver.queues() == {}
    driver.arrive(0, 1)
    assert driver.queues() == {0: 0}
    driver.step((0, 1, 1))
    assert driver.queues() == {0: 1}


def test_a_turn_that_is_cancelled_before_anybody_looked_leaves_nothing():
    driver = make()
    driver.arrive(0, 50)
    driver.end(0)
    assert not driver.ranker.is_due(0)
    driver.arrive(0, 2)
    driver.end(0)
    driver.arrive(0, 1)
    assert driver.queues() == {0: 0}
    driver.end(0)
    assert not driver.ranker.is_due(10_000)


class TestSetPriority:
    def test_moves_to_that_queue_with_a_whole_quantum(self):
        driver = make(num_queues=4)
        mine = driver.arrive(0, 3)
        driver.step((0, 3, 1))  # 3 of 4 s
        mine.priority = 1
        driver.step((0, *DECODE))
        assert driver.queues() == {0: 1}, "1 of 2 s, what it used elsewhere does not count"
        driver.step((0, *DECODE))
        assert driver.queues() == {0: 2}
        mine.priority = 99
        assert driver.queues() == {0: 99}
        assert driver.ranker.order([mine, waiting(1, 1, priority=3, arrival=5.0)]) == [
            mine,
            waiting(1, 1, priority=3, arrival=5.0),
        ], "beyond the last is the last"
        for _ in range(9):
            driver.step((0, *DECODE))
        assert driver.queues() == {0: 99}

    def test_after_its_quantum_is_used_up_and_before_anybody_looked_the_user_wins(self):
        driver = make()
        mine = driver.arrive(0, 1)
        driver.step((0, 1, 1))
        mine.priority = 2
        assert driver.queues() == {0: 2}

    @pytest.mark.parametrize("is_first", [True, False])
    def test_a_level_that_comes_with_a_turn_is_its_queue(self, is_first):
        driver = make()
        if not is_first:
            driver.arrive(0, 50)
            driver.step((0, 50, 1))
            driver.end(0)
        driver.arrive(0, 50, priority=1)
        assert driver.queues() == {0: 1}
        driver.step((0, 1, 0))
        assert driver.queues() == {0: 1}
        driver.step((0, 1, 0))
        assert driver.queues() == {0: 2}

    def test_who_was_moved_down_may_starve_and_is_promoted(self):
        driver = make(starving_iterations=10)
        mine = driver.arrive(0, 1)
        driver.step()
        mine.priority = 2
        for _ in range(9):
            driver.step()
        assert driver.queues() == {0: 0}


def test_who_waits_in_the_first_queue_is_not_asked_about_again_and_again():
    driver = make(starving_iterations=10)
    for request_id in range(20):
        driver.arrive(request_id, 1)
    for _ in range(100):
        driver.step()
    assert driver.num_dues == 1, "when they came"


def test_nor_looked_at_again_and_again():
    driver = make(starving_iterations=10)
    looked_at = []
    longer_than = driver.ranker._waits.longer_than

    def counting(*arguments):
        for each in longer_than(*arguments):
            looked_at.append(each)
            yield each

    driver.ranker._waits.longer_than = counting
    for request_id in range(20):
        driver.arrive(request_id, 1)
    for _ in range(100):
        driver.step()
    assert len(looked_at) <= 20 * 100 / 10, "each once in ten iterations"


def test_a_quantum_is_used_up_by_the_tokens_that_make_it_up_whatever_their_sum_is_rounded_to():
    """Eight times 0.1 are less than 0.8 in floating point."""
    driver = Driver(MLFQ(lambda num_tokens: 0.1 * num_tokens, 0.1, num_queues=5))
    driver.arrive(0, 8)
    assert driver.queues() == {0: 3}
    for _ in range(8):
        assert driver.queues() == {0: 3}
        driver.step((0, *DECODE))
    assert driver.queues() == {0: 4}
    assert MLFQ(lambda num_tokens: 0.1 * num_tokens, 0.3, num_queues=2).queue_of_prompt(3) == 0, "3 x 0.1 > 0.3"


def test_a_forecast_is_of_those_who_will_have_starved():
    driver = make(starving_iterations=10)
    old, new = driver.arrive(0, 50), driver.arrive(1, 1)
    for _ in range(9):
        driver.step()
    assert driver.look() == [1, 0]
    assert driver.ranker.forecast([old, new], 9) is None
    assert driver.ranker.is_due(10)
    assert driver.ranker.forecast([old, new], 10) == [old, new]
    assert not driver.ranker.is_due(9), "asking changes nothing"
    driver.step()
    assert driver.look() == [0, 1], "and so it comes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode_s": 0.0}, "decode_s must be positive, got 0"),
        ({"first_quantum_s": -1.0}, "first_quantum_s must be positive, got -1"),
        ({"num_queues": 0}, "num_queues must be at least 1, got 0"),
        ({"starving_iterations": 0}, "starving_iterations must be at least 1, got 0"),
        ({"ratio": 1.0}, "ratio must be above 1: each quantum is longer than the one before, got 1"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError) as refused:
        MLFQ(float, **{"decode_s": 1.0, **options})
    assert str(refused.value) == message


def test_one_queue_is_first_come_first_served():
    driver = make(num_queues=1)
    for request_id, length in enumerate((50, 1, 7)):
        driver.arrive(request_id, length)
        driver.step((request_id, length, 1))
    assert driver.ranker.quanta_s == (inf,)
    assert driver.look() == [0, 1, 2]


@st.composite
def lives(draw):
    """What happens to four conversations: (what, whose, how much)."""
    kinds = st.sampled_from(["arrive", "serve", "serve", "serve", "again", "end", "move", "pass"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 3), st.integers(1, 9)), max_size=60))


@given(lives(), st.integers(1, 4), st.integers(1, 12))
def test_whatever_is_served(life, num_queues, starving):
    """Order by (queue, arrival, id); the quantum to the second; no queue rises but by promotion, move or a new turn."""
    driver = make(num_queues, starving_iterations=starving)
    # the model: request_id |-> queue; queue of its quantum; seconds of that; iterations without service; prompt to go
    queue, base, used, waits, left = model = {}, {}, {}, {}, {}
    quanta = [2.0**i for i in range(num_queues - 1)] + [inf]
    for what, one, amount in life:
        served = ()
        if what == "arrive" and one not in queue:
            driver.arrive(one, amount)
            queue[one] = base[one] = next(i for i, quantum in enumerate(quanta) if amount <= quantum)
            used[one], waits[one], left[one] = 0.0, 0, amount
        elif one not in queue:
            continue
        elif what in ("serve", "again"):
            num_prefill = min(amount, left[one]) if what == "serve" else 0
            left[one] -= num_prefill
            served = ((one, num_prefill, int(what == "serve" and not left[one])),)
        elif what == "end":
            driver.end(one)
            for each in model:
                del each[one]
        elif what == "move":
            driver.requests[one].priority = queue[one] = amount % num_queues
        for each in queue:  # as the ranker is asked: after a move, too
            if waits[each] >= starving:
                waits[each] = 0
                if queue[each] > 0:
                    queue[each], base[each], used[each] = 0, 0, 0.0
        assert driver.queues() == queue
        expected = sorted(queue, key=lambda i: (queue[i], driver.requests[i].arrival, i))
        assert driver.look() == expected
        for better, worse in pairwise(driver.requests[i] for i in expected):
            assert driver.ranker.may_preempt(better, worse)
            assert not driver.ranker.may_preempt(worse, better)
        driver.step(*served)
        for each in queue:
            waits[each] += 1
            if what == "serve" and each == one:
                waits[each] = 0
                if queue[each] != base[each]:
                    base[each], used[each] = queue[each], 0.0
                used[each] += served[0][1] or 1
                if used[each] >= quanta[queue[each]]:
                    queue[each] = base[each] = queue[each] + 1
                    used[each] = 0.0

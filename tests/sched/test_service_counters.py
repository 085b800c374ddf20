"""The counters, against the rules of the VTC paper's Algorithm 2."""

import pytest

from fastswitch.sched import ServiceCounters


def all_there(**tokens):
    """Clients that came before any was served, and were then given so many tokens."""
    counters = ServiceCounters()
    for client_id in tokens:
        counters.enter(client_id)
    for client_id, number in tokens.items():
        counters.charge_output(client_id, number)
    return counters


def test_a_prompt_token_weighs_one_and_an_answer_token_two():
    counters = ServiceCounters()
    counters.charge_input("a", 30)
    counters.charge_output("a", 5)
    assert counters.value("a") == 30 + 2 * 5
    assert counters.value("nobody") == 0


def test_a_client_of_twice_the_weight_is_charged_half():
    counters = ServiceCounters(weights={"big": 2.0})
    for client_id in ("big", "small"):
        counters.charge_input(client_id, 30)
        counters.charge_output(client_id, 5)
    assert (counters.value("big"), counters.value("small")) == (20, 40)


def test_who_comes_is_lifted_to_the_least_of_those_who_are_there():
    counters = all_there(a=50, b=20, gone=5)
    counters.leave("gone")
    counters.enter("c")
    assert counters.value("c") == 40


def test_the_lift_never_lowers():
    counters = all_there(a=50, b=10)
    counters.leave("a")
    counters.enter("a")
    assert counters.value("a") == 100


def test_where_nobody_is_there_to_the_last_leavers():
    counters = all_there(a=50, b=20)
    counters.leave("a")
    counters.leave("b")
    counters.charge_output("b", 5)  # what it is served after it has left the queue counts
    counters.enter("c")
    assert counters.value("c") == 50


def test_a_second_turn_of_one_who_is_there_lifts_nothing():
    counters = ServiceCounters()
    counters.enter("a")
    counters.enter("b")
    counters.charge_output("b", 10)
    counters.enter("a")
    assert counters.value("a") == 0
    counters.leave("a")
    assert set(counters.present) == {"a", "b"}
    counters.leave("a")
    assert set(counters.present) == {"b"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"input_weight": 0}, "weights must be positive, got 0 for input"),
        ({"output_weight": -1}, "weights must be positive, got -1 for output"),
        ({"weights": {"a": float("nan")}}, "weights must be positive, got nan for a"),
    ],
)
def test_weights_are_positive(arguments, why):
    with pytest.raises(ValueError, match="weights must be positive") as error:
        ServiceCounters(**arguments)
    assert str(error.value) == why

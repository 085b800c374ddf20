"""Our ratios beside the paper's: which readings reach them, and that a direction is no value."""

import pytest

from fastswitch.engine.reproduce.beside_paper import beside_notes, main_table
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import FOUR_RUNS, HEADLINE, LOAD, PATTERNS, TURNS
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from tests.engine.reproduce import made_up

LOW, BELOW = "1 turn/s 1.20", "below it in 1 turn/s"


def evaluation(tmp_path, conversations, turns, *, saturated=True, rate=100.0):
    """How many times longer latencies of ``vllm_0_3`` are than those of ``paper``, in the two readings.

    One figure a pattern of levels, or one for both.
    """
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",)))
    for part, gains in ((HEADLINE, conversations), (TURNS, turns)):
        for priority, gain in zip(PATTERNS, gains if isinstance(gains, tuple) else (gains,), strict=False):
            arrival = "turn" if part == TURNS else "conversation"
            add(found, made_up.case(part, FOUR_RUNS, arrival=arrival, priority=priority), gain, saturated, rate)
    return found


def add(found, case, gain, saturated, rate=100.0):
    found.cases.append(case)
    for simulation in case.simulations:
        is_base = simulation.run == "vllm_0_3"
        longest = gain if is_base else 1.0
        found.outcomes[simulation] = made_up.outcome(
            simulation.run, longest, 100.0 if is_base else rate, saturated=saturated or is_base
        )


@pytest.mark.parametrize(
    ("conversations", "turns", "said"),
    [
        (5.0, 1.2, "1 conversation/s 5.00; 1 turn/s 1.20: within it in 1 conversation/s; below it in 1 turn/s"),
        (3.0, 1.2, "1 conversation/s 3.00; 1 turn/s 1.20: below it in 1 conversation/s and 1 turn/s"),
        (9.0, 8.0, "1 conversation/s 9.00; 1 turn/s 8.00: above it in 1 conversation/s and 1 turn/s"),
        (9.0, 1.2, "1 conversation/s 9.00; 1 turn/s 1.20: above it in 1 conversation/s; below it in 1 turn/s"),
        # a pattern on each side of the range reaches nothing
        ((9.0, 3.0), 1.2, f"1 conversation/s 9.00 and 3.00; {LOW}: on both sides of it in 1 conversation/s; {BELOW}"),
        (
            (9.0, 5.0),
            1.2,
            f"1 conversation/s 9.00 and 5.00; {LOW}: within it with one pattern in 1 conversation/s; {BELOW}",
        ),
    ],
)
def test_which_reading_reaches_the_paper(tmp_path, conversations, turns, said):
    notes = "".join(beside_notes(evaluation(tmp_path, conversations, turns)))
    assert f"- llama8b-a10, TTFT P95: the paper 4.3-5.8 (from memory); here {said}\n" in notes


@pytest.mark.parametrize(("rate", "said"), [(150.0, "reached"), (120.0, "not reached")])
def test_an_upper_end_alone_is_not_reached_by_less(tmp_path, rate, said):
    notes = "".join(beside_notes(evaluation(tmp_path, 5.0, 5.0, rate=rate)))
    assert f"tokens/s: the paper up to 1.44 (second-hand); here 1 conversation/s {rate / 100:.2f}; " in notes
    assert f"{rate / 100:.2f}: {said} in 1 conversation/s and 1 turn/s\n" in notes


@pytest.mark.parametrize(
    ("loads", "saturated", "said"),
    [((0.6, 0.8), False, "≥ 0.8"), ((0.6, 0.8), True, "≥ 0.8*"), ((0.6, 20), True, "0.6*")],
)
def test_a_borne_load_says_that_the_sweep_ends_or_the_limit_is_saturated(tmp_path, loads, saturated, said):
    """The limit bears a load of 1 at most: P99 is as many seconds as is offered, but for the last."""
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",)))
    for load in loads:
        case = made_up.case(LOAD, FOUR_RUNS, load=load, rate=load)
        found.cases.append(case)
        for simulation in case.simulations:
            found.outcomes[simulation] = made_up.outcome(simulation.run, load, saturated=saturated)
    assert f"| highest borne load, {said} | `paper` |" in main_table(found)


def test_a_direction_is_marked_and_compared_with_nothing(tmp_path):
    found = evaluation(tmp_path, 5.0, 1.2, saturated=False)
    assert "| 1 conversation/s | `paper` | ↑ (5.00) | ↑ (5.00) |" in main_table(found)
    assert "the paper 4.3-5.8" not in "".join(beside_notes(found))

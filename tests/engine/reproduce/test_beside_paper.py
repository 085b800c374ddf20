"""Our ratios beside the paper's: which readings reach them, and that a direction is no value."""

import pytest

from fastswitch.engine.reproduce.beside_paper import beside_notes, main_table
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import FOUR_RUNS, HEADLINE, TURNS
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from tests.engine.reproduce import made_up


def evaluation(tmp_path, conversations, turns, *, saturated=True):
    """How many times longer latencies of ``vllm_0_3`` are than those of ``paper``, in the two readings."""
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",)))
    for part, gain in ((HEADLINE, conversations), (TURNS, turns)):
        case = made_up.case(part, FOUR_RUNS, arrival="turn" if part == TURNS else "conversation")
        found.cases.append(case)
        for simulation in case.simulations:
            is_base = simulation.run == "vllm_0_3"
            longest = gain if is_base else 1.0
            found.outcomes[simulation] = made_up.outcome(simulation.run, longest, saturated=saturated or is_base)
    return found


@pytest.mark.parametrize(
    ("conversations", "turns", "said"),
    [
        (5.0, 1.2, "1 conversation/s 5.00; 1 turn/s 1.20: reached by 1 conversation/s"),
        (3.0, 1.2, "1 conversation/s 3.00; 1 turn/s 1.20: not reached"),
        (9.0, 8.0, "1 conversation/s 9.00; 1 turn/s 8.00: exceeded"),
        (9.0, 1.2, "1 conversation/s 9.00; 1 turn/s 1.20: it lies between two readings"),
    ],
)
def test_which_reading_reaches_the_paper(tmp_path, conversations, turns, said):
    notes = "".join(beside_notes(evaluation(tmp_path, conversations, turns)))
    assert f"- llama8b-a10, TTFT P95: the paper 4.3-5.8 (from memory); here {said}\n" in notes


def test_a_direction_is_marked_and_compared_with_nothing(tmp_path):
    found = evaluation(tmp_path, 5.0, 1.2, saturated=False)
    assert "| 1 conversation/s | `paper` | ↑ (5.00) | ↑ (5.00) |" in main_table(found)
    assert "the paper 4.3-5.8" not in "".join(beside_notes(found))

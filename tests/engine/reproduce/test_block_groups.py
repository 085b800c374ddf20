"""Whether groups pay is said of what every seed shows, not of what one does."""

import pytest

from fastswitch.engine.reproduce.block_groups import block_groups_section
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import GROUPS
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from tests.engine.reproduce import made_up

RUNS = ("modern", "fastswitch")


def section(tmp_path, *settings):
    """Each setting is the latencies of groups with three seeds, where paged runs' are 10 s."""
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",), full=True))
    for call_us, waits in enumerate(settings, 1):
        for seed, wait in enumerate(waits):
            case = made_up.case(GROUPS, RUNS, changed="PCIe 4.0, host full", value=call_us, call_us=call_us, seed=seed)
            found.cases.append(case)
            for simulation in case.simulations:
                longest = 10.0 if simulation.run == "modern" else wait
                found.outcomes[simulation] = made_up.outcome(simulation.run, longest)
    return "".join(block_groups_section(found))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            [(10, 10, 10), (10, 10, 10)],
            "**No**: with every seed better by more than 3% in ",
        ),
        ([(5, 5, 10), (10, 5, 5)], "**No**: with every seed better by more than 3% in "),
        ([(8, 9, 8), (10, 10, 10), (12, 12, 12)], "in 1 of 3 settings, worse in 1; "),
        ([(8, 9, 8), (10, 10, 10)], "**Seldom**: "),
        ([(8, 9, 8), (7, 7, 7), (10, 10, 10)], "**Yes**: "),
        (
            [(12, 12, 12)],
            "**No**: with every seed better by more than 3% in TTFT P95 or tokens/s in 0 of 1 settings, ",
        ),
    ],
)
def test_the_answer(tmp_path, settings, said):
    assert said in section(tmp_path, *settings)


def test_a_row_has_the_seeds_together_and_each(tmp_path):
    text = section(tmp_path, (5, 10, 10))
    (row,) = (line for line in text.splitlines() if line.startswith("| 2,048 KiB | PCIe 4.0, host full | 1 | "))
    assert row.endswith("| 2.0 | 2.0 | 1.03 (2.00, 1.00, 1.00) | 1.01 | 1.00 | 1.00 (1.00, 1.00, 1.00) |")
    assert "seeds 0, 1, 2." in text


def test_nothing_is_said_of_what_was_not_simulated(tmp_path):
    assert section(tmp_path) == ""

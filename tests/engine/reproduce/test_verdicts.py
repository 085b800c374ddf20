"""Claims are met or missed by the figures, and what misses them is named."""

import pytest

from fastswitch.engine.reproduce.cells import speedup_cell
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import ALL_RUNS, HEADLINE, LOAD
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.verdicts import ORDER, verdicts
from tests.engine.reproduce import made_up

# the longest wait of each run, the best last
WAITS = {run: 100.0 - 5 * i for i, run in enumerate(ORDER)} | {"cross_layer": 90.0, "modern": 90.0}
WAITS["fastswitch+ahead"] = WAITS["paper"]


def evaluation(tmp_path, waits, *, full=False, seeds=(0,), **figures):
    asked = ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",), full=full)
    found = Evaluation(asked)
    for seed in seeds:
        case = made_up.case(runs=ALL_RUNS, seed=seed)
        found.cases.append(case)
        for simulation in case.simulations:
            wait = waits[simulation.run]
            found.outcomes[simulation] = made_up.outcome(simulation.run, wait, 1000 / wait, **figures)
    return found


def lines(found, start):
    return [line for line in verdicts(found) if line.startswith(start)]


def test_all_is_met_where_each_run_is_better_than_the_one_before(tmp_path):
    found = evaluation(tmp_path, WAITS | {"free_switch": WAITS["fastswitch"] * 0.97})
    said = verdicts(found)
    assert len(said) == 2 + 2 + 2
    assert all(": met" in line for line in said)


def test_who_breaks_the_order_is_named(tmp_path):
    found = evaluation(tmp_path, WAITS | {"+async": 99.0})
    by_wait, by_rate = lines(found, "the order")
    assert by_wait.endswith("TTFT P95, llama8b-a10, random: missed: `+async` 94 behind `+groups` 85.5")
    assert by_rate.endswith("tokens/s, llama8b-a10, random: missed: `+async` 10.1 behind `+groups` 11.1")


def test_less_than_chance_breaks_nothing(tmp_path):
    found = evaluation(tmp_path, WAITS | {"+async": WAITS["+groups"] * 1.02})
    assert all(line.endswith(": met") for line in lines(found, "the order"))


def test_more_than_chance_breaks_it(tmp_path):
    found = evaluation(tmp_path, WAITS | {"+async": WAITS["+groups"] * 1.04})
    assert all("missed: `+async`" in line for line in lines(found, "the order"))


def test_who_is_better_than_ours_is_named(tmp_path):
    better = WAITS | {"modern": 40.0}
    paper, ours = (line for line in lines(evaluation(tmp_path, better), "`") if "at least as good" in line)
    assert paper.startswith("`paper` at least as good as every other run but `fastswitch` and `free_switch` in")
    assert paper.endswith("(76 s): missed: `modern` 38 s")
    assert ours.endswith("(71.3 s): missed: `modern` 38 s")


def test_the_paper_may_be_behind_fastswitch_but_not_the_other_way_round(tmp_path):
    swapped = WAITS | {"paper": WAITS["fastswitch"], "fastswitch": WAITS["paper"]}
    paper, ours = (line for line in lines(evaluation(tmp_path, swapped), "`") if "at least as good" in line)
    assert paper.endswith(": met")
    assert ours.endswith("(76 s): missed: `paper` 71.3 s")


def test_nothing_is_claimed_where_nothing_was_switched(tmp_path):
    switches = made_up.outcome("paper").figures["switches"]
    found = evaluation(tmp_path, WAITS, switches={**switches, "swap_outs": 0, "drops": 0})
    assert verdicts(found) == ["no request was ever switched, so no run differs from another: llama8b-a10, random"]


@pytest.mark.parametrize(
    ("behind", "full", "said"),
    [
        (1.049, False, "within 5% of `free_switch` in TTFT P99, llama8b-a10, random: met, 4.9% behind"),
        (1.051, False, "within 5% of `free_switch` in TTFT P99, llama8b-a10, random: missed, 5.1% behind"),
        (1.051, True, "within 10% of `free_switch` in TTFT P99, llama8b-a10, random: met, 5.1% behind"),
        (0.9, False, "within 5% of `free_switch` in TTFT P99, llama8b-a10, random: met, 10.0% ahead"),
    ],
)
def test_the_gap_to_the_limit(tmp_path, behind, full, said):
    found = evaluation(tmp_path, WAITS | {"fastswitch": WAITS["free_switch"] * behind}, full=full)
    assert f"`fastswitch` {said}" in verdicts(found)


def test_too_few_samples_give_no_verdict_on_tails(tmp_path):
    found = evaluation(tmp_path, WAITS, num=20)
    assert [line for line in verdicts(found) if "TTFT" in line] == []
    assert len(lines(found, "the order")) == 1, "tokens/s can be told"


def test_a_ratio_of_which_one_side_is_saturated_is_a_direction():
    case = made_up.case(HEADLINE, runs=("vllm_0_3", "paper"))

    def cell(ours, theirs, seconds=2.0):
        outcomes = {
            "vllm_0_3": made_up.outcome("vllm_0_3", 4.0, saturated=theirs),
            "paper": made_up.outcome("paper", seconds, saturated=ours),
        }
        return speedup_cell(Result.of(case, outcomes), "paper", "vllm_0_3", "ttft_p95")

    assert cell(ours=False, theirs=False) == cell(ours=True, theirs=True) == "2.00"
    assert cell(ours=False, theirs=True) == "↑ (2.00)"
    assert cell(ours=True, theirs=False, seconds=8.0) == "↓ (0.50)"


def test_the_quoted_load_is_the_highest_that_is_borne(tmp_path):
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",)))
    for load, wait in ((0.6, 1.0), (0.8, 9.0), (1.0, 11.0), (1.2, 9.9), (1.4, 50.0)):
        case = made_up.case(LOAD, runs=("free_switch",), load=load, rate=load)
        found.cases.append(case)
        found.outcomes[case.simulations[0]] = made_up.outcome("free_switch", wait)
    assert found.quoted()["llama8b-a10", "random"].case.load == 1.2
    assert list(found.quoted()) == [("llama8b-a10", "random")]

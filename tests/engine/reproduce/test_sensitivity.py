"""What an assumption is worth: values are ranked, directions are said beside them, and less offered is shown."""

from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import FOUR_RUNS, SENSITIVITY
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.reproduce.sensitivity import sensitivity_section, widest_spans
from tests.engine.reproduce import made_up

THINK, CALLS = "think time, s", "dispatch, us a call"
# what is changed, to what, how many times longer `vllm_0_3` waits, is only it saturated, tokens offered a second
CASES = (
    (CALLS, 1, {"call_us": 1.0}, 2.0, False, 100.0),
    (CALLS, 10, {}, 4.0, False, 100.0),
    (CALLS, 20, {"call_us": 20.0}, 50.0, True, 100.0),
    (THINK, 10, {}, 4.0, False, 100.0),
    (THINK, 100, {"think": 100.0}, 12.0, False, 57.0),
)


def evaluation(tmp_path):
    found = Evaluation(ReproduceOptions(command="x", report=tmp_path, setups=("llama8b-a10",)))
    for changed, value, options, gain, is_direction, offered in CASES:
        case = made_up.case(SENSITIVITY, FOUR_RUNS, 1.0, changed, value, **options)
        found.cases.append(case)
        for simulation in case.simulations:
            is_base = simulation.run == "vllm_0_3"
            found.outcomes[simulation] = made_up.outcome(
                simulation.run,
                gain if is_base else 1.0,
                saturated=is_base and is_direction,
                offered_tokens_per_s=offered,
            )
    return found


def test_a_direction_widens_nothing(tmp_path):
    spans = widest_spans(evaluation(tmp_path).part(SENSITIVITY), "fastswitch")
    assert spans == [f"{THINK}: 4.00 to 12.00", f"{CALLS}: 2.00 to 4.00 and ↑ (50.00)"]


def test_what_is_offered_is_a_share_of_what_is_with_the_setups_own_values(tmp_path):
    section = "".join(sensitivity_section(evaluation(tmp_path)))
    assert f"| {THINK} | 10 | 1.00 |" in section
    assert f"| {THINK} | 100 | 0.57 |" in section

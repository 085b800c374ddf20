"""How many times better than vLLM 0.3's way, in each reading of the paper's rate, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fastswitch.engine.reproduce.cells import SPEEDUPS, ratio, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, QUOTED_P99_S, Evaluation, Place
from fastswitch.engine.reproduce.plan import LOAD, SENSITIVITY
from fastswitch.engine.reproduce.published import PUBLISHED, PublishedRange
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.sensitivity import widest_spans

__all__ = ["beside_notes", "main_table"]

BASE, OURS = "vllm_0_3", ("paper", "fastswitch")
READ_WITH_CARE = (
    "↑ and ↓: just one of the two runs is saturated (more is asked of it than it serves while somebody waits), so its "
    "tail grows for as long as the workload lasts; the figure in brackets is a direction, no value. `-`: no figure, "
    "mostly for want of samples (P99 needs 500, P99.9 5,000)."
)


def main_table(evaluation: Evaluation) -> str:
    """How many times better than vLLM 0.3's way, in each reading, beside the paper's figures."""
    rows: list[list[str]] = []
    for setup in evaluation.asked.setups:
        for place in evaluation.places:
            if place[0] == setup:
                rows += _speedup_rows(place, evaluation)
        if setup in PUBLISHED and evaluation.asked.workload == "synthetic":
            published = [str(PUBLISHED[setup][figure]) for figure in SPEEDUPS]
            rows.append([f"**{setup}, the paper**", "1 request/s", "its own", *published])
    return table(["setup, levels", "arrivals", "run over `vllm_0_3`", *SPEEDUPS.values()], rows)


def beside_notes(evaluation: Evaluation) -> Iterator[str]:
    """How to read it, and where the figures lie beside the paper's."""
    yield (
        '"1 request/s" can be read as conversations or as turns. Highest borne load: the highest of the sweep at which '
        f"`{LIMIT}` keeps P99 of TTFT under {QUOTED_P99_S:g} s, as a share of the conversations that it can serve; "
        f"after ≥ it is the highest that was tried, and where * follows even `{LIMIT}` is saturated at it: its tail, "
        f"and all others, would be longer in a longer workload. {READ_WITH_CARE}\n"
    )
    capacities = evaluation.capacities()
    if capacities:
        said = [
            f"{setup}, {priority} {'' if is_known else 'at least '}{rate:.3g}"
            for (setup, priority), (rate, is_known) in capacities.items()
        ]
        yield f"Conversations a second that `{LIMIT}` can serve: {'; '.join(said)}.\n"
    if evaluation.asked.workload == "synthetic":
        yield from _differences(evaluation)


def _differences(evaluation: Evaluation) -> Iterator[str]:
    """Where our figures lie beside the paper's, reading by reading, and what moves ours."""
    lines = []
    for setup in evaluation.asked.setups:
        for figure, published in PUBLISHED.get(setup, {}).items():
            values = {
                reading: found
                for reading, results in _readings(evaluation).items()
                if (found := _values(results, setup, figure))
            }
            if values:
                said = [f"{reading} {' and '.join(ratio(each) for each in found)}" for reading, found in values.items()]
                lines.append(
                    f"- {setup}, {SPEEDUPS[figure]}: the paper {published} ({published.known}); "
                    f"here {'; '.join(said)}: {_compared(published, values)}"
                )
    if lines:
        yield (
            "The paper's system over vLLM 0.3's way, a figure a pattern of the levels, and where each reading lies "
            "beside what the paper reports of its two patterns, directions left out; its abstract says 1.4 to 11.2 "
            "over all tails:\n"
        )
        yield "\n".join(lines) + "\n"
    for setup in evaluation.asked.setups:
        changed = [result for result in evaluation.part(SENSITIVITY) if result.case.setup == setup]
        if changed:
            yield (
                f"Besides the reading, what is assumed moves `paper` over `{BASE}` on {setup} (TTFT P95, load 1.0): "
                f"{'; '.join(widest_spans(changed, 'paper'))}.\n"
            )


def _compared(published: PublishedRange, values: Mapping[str, Sequence[float]]) -> str:
    """On which side of the paper's range the readings are; of an upper end alone, the largest figure is compared."""
    sides: dict[str, list[str]] = {}
    for reading, found in values.items():
        if published.low is None:
            side = "reached" if max(found) >= published.high else "not reached"
        else:
            side = _side(found, published.low, published.high)
        sides.setdefault(side, []).append(reading)
    return "; ".join(f"{side} in {' and '.join(readings)}" for side, readings in sides.items())


def _side(values: Sequence[float], low: float, high: float) -> str:
    where = {"below" if value < low else "above" if value > high else "within" for value in values}
    if len(where) == 1:
        return f"{where.pop()} it"
    return "on both sides of it" if "within" not in where else "within it with one pattern"


def _values(results: Mapping[Place, Result], setup: str, figure: str) -> list[float]:
    """A figure a pattern, directions left out."""
    return [
        value
        for place, result in results.items()
        if place[0] == setup
        and result.is_saturated("paper") == result.is_saturated(BASE)
        and (value := result.speedups[f"paper/{BASE}"][figure]) is not None
    ]


def _speedup_rows(place: Place, evaluation: Evaluation) -> Iterator[list[str]]:
    for reading, results in _readings(evaluation).items():
        if place in results:
            result = results[place]
            at = "" if result.case.load is None else f", {_load_cell(result, evaluation)}"
            for run in OURS:
                cells = [speedup_cell(result, run, BASE, figure) for figure in SPEEDUPS]
                yield [f"{place[0]}, {place[1]}", reading + at, f"`{run}`", *cells]


def _load_cell(result: Result, evaluation: Evaluation) -> str:
    """A borne load, with what it has to be read with."""
    case = result.case
    is_end = case.load == max(one.case.load or 0 for one in evaluation.at(LOAD, (case.setup, case.priority)))
    return f"{'≥ ' if is_end else ''}{case.load:g}{'*' if result.is_saturated(LIMIT) else ''}"


def _readings(evaluation: Evaluation) -> dict[str, Mapping[Place, Result]]:
    return {
        "1 conversation/s": evaluation.headlines(),
        "1 turn/s": evaluation.turns(),
        "highest borne load": evaluation.quoted(),
    }

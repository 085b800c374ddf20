"""How many times better than vLLM 0.3's way, in each reading of the paper's rate, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastswitch.engine.reproduce.cells import SPEEDUPS, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, QUOTED_P99_S, Evaluation, Place
from fastswitch.engine.reproduce.plan import SENSITIVITY
from fastswitch.engine.reproduce.published import PUBLISHED, PublishedRange
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.sensitivity import widest_spans

__all__ = ["beside_notes", "main_table"]

BASE, OURS = "vllm_0_3", ("paper", "fastswitch")
READ_WITH_CARE = (
    "↑ and ↓: just one of the two runs is saturated (more is asked of it than it serves while somebody waits), so its "
    "tail grows for as long as the workload lasts; the figure in brackets is a direction, no value. `-`: too few "
    "samples for the percentile (P99 needs 500, P99.9 5,000)."
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
        f"`{LIMIT}` keeps P99 of TTFT under {QUOTED_P99_S:g} s, as a share of the conversations that it can serve. "
        f"{READ_WITH_CARE}\n"
    )
    capacities = evaluation.capacities()
    if capacities:
        said = [f"{setup}, {priority} {rate:.3g}" for (setup, priority), rate in capacities.items()]
        yield f"Conversations a second that `{LIMIT}` can serve: {'; '.join(said)}.\n"
    if evaluation.asked.workload == "synthetic":
        yield from _differences(evaluation)


def _differences(evaluation: Evaluation) -> Iterator[str]:
    """Where our figures lie beside the paper's, reading by reading, and what moves ours."""
    lines = []
    for setup in evaluation.asked.setups:
        for figure, published in PUBLISHED.get(setup, {}).items():
            spans = {
                reading: span
                for reading, results in _readings(evaluation).items()
                if (span := _span(results, setup, figure)) is not None
            }
            if spans:
                said = [
                    f"{reading} {low:.2f}{f' to {high:.2f}' if high > low else ''}"
                    for reading, (low, high) in spans.items()
                ]
                lines.append(
                    f"- {setup}, {SPEEDUPS[figure]}: the paper {published} ({published.known}); "
                    f"here {'; '.join(said)}: {_compared(published, spans)}"
                )
    if lines:
        yield (
            "The paper's system over vLLM 0.3's way, over both patterns, and which readings reach what the paper "
            "reports, directions left out; its abstract says 1.4 to 11.2 over all tails:\n"
        )
        yield "\n".join(lines) + "\n"
    for setup in evaluation.asked.setups:
        changed = [result for result in evaluation.part(SENSITIVITY) if result.case.setup == setup]
        if changed:
            yield (
                f"Besides the reading, what is assumed moves `paper` over `{BASE}` on {setup} (TTFT P95, load 1.0): "
                f"{'; '.join(widest_spans(changed, 'paper'))}.\n"
            )


def _compared(published: PublishedRange, spans: Mapping[str, tuple[float, float]]) -> str:
    """Which readings' spans meet the paper's range; where none does, on which side of it they are."""
    least = 0.0 if published.low is None else published.low
    meeting = [reading for reading, (low, high) in spans.items() if low <= published.high and high >= least]
    if meeting:
        return f"reached by {', '.join(meeting)}"
    below = {high < least for _, high in spans.values()}
    return "not reached" if below == {True} else "exceeded" if below == {False} else "it lies between two readings"


def _span(results: Mapping[Place, Result], setup: str, figure: str) -> tuple[float, float] | None:
    values = [
        value
        for place, result in results.items()
        if place[0] == setup
        and result.is_saturated("paper") == result.is_saturated(BASE)
        and (value := result.speedups[f"paper/{BASE}"][figure]) is not None
    ]
    return (min(values), max(values)) if values else None


def _speedup_rows(place: Place, evaluation: Evaluation) -> Iterator[list[str]]:
    for reading, results in _readings(evaluation).items():
        if place in results:
            result = results[place]
            at = "" if result.case.load is None else f", {result.case.load:g}"
            for run in OURS:
                cells = [speedup_cell(result, run, BASE, figure) for figure in SPEEDUPS]
                yield [f"{place[0]}, {place[1]}", reading + at, f"`{run}`", *cells]


def _readings(evaluation: Evaluation) -> dict[str, Mapping[Place, Result]]:
    return {
        "1 conversation/s": evaluation.headlines(),
        "1 turn/s": evaluation.turns(),
        "highest borne load": evaluation.quoted(),
    }

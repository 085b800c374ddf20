"""The report in Markdown: what was simulated, beside what the paper reports, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastswitch.engine.reproduce.cells import SPEEDUPS, ratio, seconds, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, QUOTED_P99_S, Evaluation, Place
from fastswitch.engine.reproduce.lost_table import lost_table
from fastswitch.engine.reproduce.plan import FOUR_RUNS, LOAD
from fastswitch.engine.reproduce.published import MEAN_TURNS, PUBLISHED
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.sensitivity import groups_section, sensitivity_section
from fastswitch.engine.reproduce.verdicts import verdicts

__all__ = ["main_table", "report"]

BASE = "vllm_0_3"
# a step |-> the run that it changes by one idea
STEPS = {
    "vllm_0_3": "recompute",
    "+groups": "vllm_0_3",
    "+async": "+groups",
    "paper": "+async",
    "fastswitch": "paper",
    "fastswitch+ahead": "fastswitch",
    LIMIT: "fastswitch",
}
READ_WITH_CARE = (
    "↑ and ↓: just one of the two runs is saturated, so its tail grows for as long as the workload lasts; the figure in "
    "brackets is a direction, no value. `-`: too few samples for the percentile (P99 needs 500, P99.9 5,000)."
)
ASSUMED = (
    "The paper's text that we have does not say what is to be known here, so it is assumed, and none of it is fitted: "
    "60 % of peak FLOP/s, 80 % of memory bandwidth, 3 ms an iteration besides, 80 % of the link, 10 us a copy call, "
    "1 us a decision for each request looked at; Random draws one of 4 levels anew at an update, Markov moves a level "
    "up or down with probability 0.1; think times are exponential with a mean of 10 s; copies do not slow down "
    "iterations. `vllm_0_3` has lazily given back clean blocks, which the engine that it stands for has not."
)


def report(evaluation: Evaluation, facts: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> str:
    """The whole of it, of what is complete so far.

    Args:
        evaluation: what was simulated.
        facts: of the machine and the versions.
        plots: captions and file names.
    """
    return "\n".join(_sections(evaluation, facts, plots))


def main_table(evaluation: Evaluation) -> str:
    """How many times better than vLLM 0.3's way, in each reading, beside the paper's figures."""
    rows = []
    readings = {
        "1 conversation/s": evaluation.headlines(),
        "1 turn/s": evaluation.turns(),
        "highest borne load": evaluation.quoted(),
    }
    for place in evaluation.places:
        for reading, results in readings.items():
            if place in results:
                rows += [_speedup_row(place, reading, results[place], run) for run in ("paper", "fastswitch")]
        if place[0] in PUBLISHED and place[1] == "markov":
            published = PUBLISHED[place[0]]
            rows.append([f"**{place[0]}, the paper**", "", "", *(str(published[name]) for name in SPEEDUPS)])
    return table(["setup, levels", "arrivals", "run over `vllm_0_3`", *SPEEDUPS.values()], rows)


def _sections(evaluation: Evaluation, facts: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> Iterator[str]:
    headlines = evaluation.headlines()
    yield from _head(evaluation, facts, headlines)
    yield "## In short\n"
    yield "\n".join(f"- {line}" for line in verdicts(evaluation)) + "\n"
    yield "## Beside the paper's figures\n"
    yield main_table(evaluation)
    yield from _beside_notes(evaluation)
    for place, result in headlines.items():
        yield from _headline(place, result)
    if headlines:
        yield from _ablation(headlines)
        yield "## What is left between `fastswitch` and the limit\n"
        yield lost_table(list(headlines.items()))
        yield (
            "Request-seconds that are lost, over the requests in an iteration, are about the seconds by which the engine "
            "takes longer: an absent request does not always leave a hole.\n"
        )
    yield from _load_sweep(evaluation)
    yield from sensitivity_section(evaluation)
    yield from groups_section(evaluation)
    yield "## Pictures\n"
    for caption, name in plots:
        yield f"{caption}\n\n![{caption}]({name})\n"


def _head(evaluation: Evaluation, facts: Mapping[str, Any], headlines: Mapping[Place, Result]) -> Iterator[str]:
    asked = evaluation.asked
    yield "# FastSwitch's evaluation, simulated\n"
    yield f"`{asked.command}`, {facts['date'][:10]}, commit {facts['commit'] or 'unknown'}; {facts['processor']}.\n"
    for result in list(headlines.values())[:1]:
        workload = next(iter(evaluation.results)).runs[LIMIT]["workload"]
        scale = result.case.options.scale
        yield (
            f"Nothing was run: the same scheduler, memory manager and step loop serve {workload['name']} conversations on "
            f"a virtual clock; iterations take what a roofline says, copies what their calls and bytes cost. "
            f"{result.case.options.conversations} conversations of the headline, seeds "
            f"{', '.join(map(str, result.seeds))}, "
            f"{workload['mean_turns']:.1f} turns on average (the paper's had {MEAN_TURNS})"
            + ("" if scale is None else f", lengths x {scale:g} to fit {result.case.setup}")
            + f"; {asked.conversations} in all other parts.\n"
        )
    yield ASSUMED + "\n"


def _speedup_row(place: Place, reading: str, result: Result, run: str) -> list[str]:
    if result.case.load is not None:
        reading = f"{reading}: {result.case.load:g}"
    cells = [speedup_cell(result, run, BASE, figure) for figure in SPEEDUPS]
    return [f"{place[0]}, {place[1]}", reading, f"`{run}`", *cells]


def _beside_notes(evaluation: Evaluation) -> Iterator[str]:
    yield (
        f'The paper\'s "1 request/s" can be read as conversations or as turns. Highest borne load: the highest of the '
        f"sweep at which `{LIMIT}` keeps P99 of TTFT under {QUOTED_P99_S:g} s, as a share of the conversations that it "
        f'can serve. The paper\'s "throughput up to 1.44" is second-hand, its other ranges are from memory; 1.4 to 11.2 '
        f"over all tails is its abstract's. {READ_WITH_CARE}\n"
    )
    capacities = evaluation.capacities()
    if capacities:
        said = [f"{setup}, {priority}: {rate:.3g}" for (setup, priority), rate in capacities.items()]
        yield f"Conversations a second that `{LIMIT}` can serve: {'; '.join(said)}.\n"
    if evaluation.asked.workload == "synthetic":
        yield from _differences(evaluation)


def _differences(evaluation: Evaluation) -> Iterator[str]:
    """Where our figures lie beside the paper's, reading by reading."""
    readings = {
        "as conversations": evaluation.headlines(),
        "as turns": evaluation.turns(),
        "at the highest borne load": evaluation.quoted(),
    }
    lines = []
    for setup in evaluation.asked.setups:
        for figure, published in PUBLISHED.get(setup, {}).items():
            said = [
                f"{reading} {low:.2f} to {high:.2f}"
                for reading, results in readings.items()
                for low, high in [_span(results, setup, figure)]
                if low is not None and high is not None
            ]
            if said:
                lines.append(f"- {setup}, {SPEEDUPS[figure]}: the paper {published}; `paper` here {', '.join(said)}")
    if lines:
        yield "Ours over both patterns, in each reading; which of them the paper's is decides most:\n"
        yield "\n".join(lines) + "\n"


def _span(results: Mapping[Place, Result], setup: str, figure: str) -> tuple[float | None, float | None]:
    values = [
        value
        for place, result in results.items()
        if place[0] == setup and (value := result.speedups[f"paper/{BASE}"][figure]) is not None
    ]
    return (min(values), max(values)) if values else (None, None)


def _headline(place: Place, result: Result) -> Iterator[str]:
    yield f"## {place[0]}, {place[1]}: 1 conversation a second\n"
    rows = []
    for run, figures in result.runs.items():
        ttft = [seconds(result.figure(run, "ttft_s", name)) for name in ("p95", "p99", "p99.9")]
        tbt = [seconds(result.figure(run, metric, "p99.9")) for metric in ("tbt_s", "tbt_resident_s")]
        switches = figures["switches"]
        counts = [f"{switches[name]:,}" for name in ("swap_outs", "drops")]
        rate = f"{figures['tokens_per_s']:.0f}{'*' if result.is_saturated(run) else ''}"
        rows.append([f"`{run}`", *ttft, *tbt, rate, *counts, seconds(switches["stall_s"])])
    latencies = ["TTFT P95, s", "P99", "P99.9", "TBT P99.9, s", "resident TBT P99.9, s"]
    yield table(["run", *latencies, "tokens/s (*: saturated)", "swap-outs", "dropped", "stall, s"], rows)


def _ablation(headlines: Mapping[Place, Result]) -> Iterator[str]:
    yield (
        "## Step by step\n\nHow many times better than the run that it changes by one idea: TTFT P95 / TBT P99.9 / "
        "tokens/s.\n"
    )
    rows = []
    for run, base in STEPS.items():
        cells = [
            " / ".join(speedup_cell(result, run, base, name) for name in ("ttft_p95", "tbt_p99.9", "tokens_per_s"))
            for result in headlines.values()
        ]
        rows.append([f"`{run}` over `{base}`", *cells])
    yield table(["step", *(f"{setup}, {priority}" for setup, priority in headlines)], rows)
    if any(len(result.seeds) > 1 for result in headlines.values()):
        yield "Spread between the seeds: see the table below; a difference that is smaller is chance.\n"


def _load_sweep(evaluation: Evaluation) -> Iterator[str]:
    for place in evaluation.places:
        results = evaluation.at(LOAD, place)
        if not results:
            continue
        yield f"## Load sweep: {place[0]}, {place[1]}\n"
        rows = []
        for result in results:
            cells = []
            for run in FOUR_RUNS:
                p95, p99 = (seconds(result.figure(run, "ttft_s", name)) for name in ("p95", "p99"))
                cells.append(f"{p95} / {p99}{'*' if result.is_saturated(run) else ''}")
            gains = [speedup_cell(result, "fastswitch", BASE, name) for name in ("ttft_p95", "ttft_p99", "tbt_p99.9")]
            ours, limit = (result.figure(run, "tokens_per_s") for run in ("fastswitch", LIMIT))
            rows.append(
                [
                    f"{result.case.load:g}",
                    f"{result.case.options.rate:.3g}",
                    *cells,
                    *gains,
                    ratio(ours / limit if ours is not None and limit else None),
                ]
            )
        runs = [f"`{run}` TTFT P95 / P99, s" for run in FOUR_RUNS]
        gains = ["`fastswitch` over `vllm_0_3`: TTFT P95", "P99", "TBT P99.9"]
        yield table(["load", "conversations/s", *runs, *gains, "tokens/s of the limit's"], rows)

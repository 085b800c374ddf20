"""The report in Markdown: what was simulated, beside what the paper reports, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastswitch.engine.reproduce.beside_paper import BASE, OURS, beside_notes, main_table
from fastswitch.engine.reproduce.block_groups import block_groups_section
from fastswitch.engine.reproduce.cells import SPEEDUPS, ratio, seconds, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, Evaluation, Place
from fastswitch.engine.reproduce.lost_table import lost_table
from fastswitch.engine.reproduce.plan import FOUR_RUNS, HEADLINE, LOAD, THINK_S
from fastswitch.engine.reproduce.published import MEAN_TURNS
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.sensitivity import sensitivity_section
from fastswitch.engine.reproduce.verdicts import CHANCE, verdicts

__all__ = ["report"]

# a step |-> the run that it goes on from
STEPS = {
    "vllm_0_3": "recompute",
    "+groups": "vllm_0_3",
    "+async": "+groups",
    "paper": "+async",
    "fastswitch": "paper",
    "fastswitch+ahead": "fastswitch",
    LIMIT: "fastswitch",
}
ASSUMED = (
    "The paper's text that we have does not say what is to be known here, so it is assumed, and none of it is fitted: "
    "60 % of peak FLOP/s, 80 % of memory bandwidth, 3 ms an iteration besides, 80 % of the link, 10 us a copy call, "
    "1 us a decision for each request looked at; Random draws one of 4 levels anew at an update, Markov moves a level "
    "up or down with probability 0.1; copies do not slow down iterations. `vllm_0_3` has lazily given back clean "
    "blocks, which the engine that it stands for has not."
)


def report(evaluation: Evaluation, facts: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> str:
    """The whole of it, of what is complete so far.

    Args:
        evaluation: what was simulated.
        facts: of the machine and the versions.
        plots: captions and file names.
    """
    return "\n".join(_sections(evaluation, facts, plots))


def _sections(evaluation: Evaluation, facts: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> Iterator[str]:
    headlines, whole = evaluation.headlines(), evaluation.ablations()
    has_spread = any(len(result.seeds) > 1 for result in headlines.values())
    yield from _head(evaluation, facts)
    yield f"## In short\n\nLess than {CHANCE:.0%} is called no difference; a seed alone may differ by that.\n"
    yield "\n".join(f"- {line}" for line in verdicts(evaluation)) + "\n"
    yield "## Beside the paper's figures\n"
    yield main_table(evaluation)
    yield from beside_notes(evaluation)
    for place, result in whole.items():
        yield from _headline(place, result, headlines[place])
    if whole:
        yield from _steps(whole, has_spread=has_spread)
        yield "## What is left between `fastswitch` and the limit\n"
        yield lost_table(headlines)
        yield (
            "A second in which a request is absent counts as one over the requests that share an iteration. The rows "
            "may add up to more than the engine takes longer by, since another request often takes an absent one's "
            "place. What is computed again for want of room on the host costs both.\n"
        )
    if has_spread:
        yield from _spread(evaluation)
    yield from _load_sweep(evaluation)
    yield from sensitivity_section(evaluation)
    yield from block_groups_section(evaluation)
    yield "## Pictures\n"
    for caption, name in plots:
        yield f"{caption}:\n\n![{caption}]({name})\n"


def _head(evaluation: Evaluation, facts: Mapping[str, Any]) -> Iterator[str]:
    asked = evaluation.asked
    yield "# FastSwitch's evaluation, simulated\n"
    yield f"`{asked.command}`, {facts['date'][:10]}, commit {facts['commit'] or 'unknown'}; {facts['processor']}.\n"
    yield (
        "Nothing was run: the same scheduler, memory manager and step loop serve the workload on a virtual clock; "
        "iterations take what a roofline says, copies what their calls and bytes cost. So the same command gives the "
        "same figures on every machine.\n"
    )
    for result in list(evaluation.headlines().values())[:1]:
        workload = result.workload
        yield (
            f"Workload: {workload['name']}, {workload['conversations']} conversations in the headline "
            f"({_seeds(result.seeds)}), {asked.conversations} in all other parts; {workload['mean_turns']:.1f} turns "
            f"each (the paper's had {MEAN_TURNS:g}).{_scaled(evaluation)}\n"
        )
    yield f"{ASSUMED}{_thinks(evaluation)}\n"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _thinks(evaluation: Evaluation) -> str:
    """How long users think: drawn, unless the trace records it."""
    if evaluation.asked.workload == "synthetic":
        return f" Think times are exponential with a mean of {THINK_S:g} s."
    return f" Where the trace records no gap between turns, think times are exponential with a mean of {THINK_S:g} s."


def _scaled(evaluation: Evaluation) -> str:
    """How far recorded lengths were shortened, setup by setup."""
    scales = {case.setup: case.options.scale for case in evaluation.cases if case.options.scale is not None}
    said = [f"{setup} x {scale:g}" for setup, scale in scales.items()]
    gaps = (
        ""
        if evaluation.asked.workload == "synthetic"
        else (
            " Where gaps between turns are recorded they are kept, and a conversation may last far longer than all "
            "take to arrive: a load of the sweep is then never reached."
        )
    )
    return (f" Lengths shortened to fit: {', '.join(said)}." if said else "") + gaps


def _headline(place: Place, whole: Result, together: Result) -> Iterator[str]:
    yield f"## {place[0]}, {place[1]}: 1 conversation a second, {_seeds(whole.seeds)}\n"
    yield _latencies(whole)
    if len(together.seeds) > 1:
        yield f"{_seeds(together.seeds).capitalize()} together:\n"
        yield _latencies(together)


def _latencies(result: Result) -> str:
    rows = []
    for run, figures in result.runs.items():
        ttft = [seconds(result.figure(run, "ttft_s", name)) for name in ("p95", "p99", "p99.9")]
        tbt = [seconds(result.figure(run, metric, "p99.9")) for metric in ("tbt_s", "tbt_resident_s")]
        switches = figures["switches"]
        counts = [f"{switches[name]:,}" for name in ("swap_outs", "drops")]
        rate = f"{figures['tokens_per_s']:.0f}{'*' if result.is_saturated(run) else ''}"
        rows.append([f"`{run}`", *ttft, *tbt, rate, *counts, seconds(switches["stall_s"])])
    heads = ["run", "TTFT P95, s", "P99", "P99.9", "TBT P99.9, s", "resident TBT P99.9, s", "tokens/s (*: saturated)"]
    return table([*heads, "swap-outs", "dropped", "stall, s"], rows)


def _steps(whole: Mapping[Place, Result], *, has_spread: bool) -> Iterator[str]:
    apart = "is under Spread" if has_spread else "is what `--full` shows: those of the tails by far more than tokens/s"
    yield (
        "## Step by step\n\nHow many times better than the run that it goes on from: TTFT P95 / TBT P99.9 / tokens/s. "
        f"One seed; how far seeds differ {apart}.\n"
    )
    rows = []
    for run, base in STEPS.items():
        cells = [
            " / ".join(speedup_cell(result, run, base, name) for name in ("ttft_p95", "tbt_p99.9", "tokens_per_s"))
            for result in whole.values()
        ]
        rows.append([f"`{run}` over `{base}`", *cells])
    yield table(["step", *(f"{setup}, {priority}" for setup, priority in whole)], rows)
    if any(_is_later(result, "paper", "modern") for result in whole.values()):
        yield (
            "Where `paper` is behind `modern`: it copies layer by layer, K and V apart, a call each; `modern` has all "
            "layers of a block in one piece and one call a batch. `--full` varies what a call costs.\n"
        )
    if any(_is_later(result, "+async", "+groups") for result in whole.values()):
        yield (
            "Where `+async` has later first tokens than `+groups`: it begins no more returns than the link carries, "
            "and who ranks behind one that must wait for the link waits too, newcomers included.\n"
        )


def _is_later(result: Result, run: str, other: str) -> bool:
    """Whether its first tokens come later than the other's, by more than chance."""
    ours, theirs = (result.figure(name, "ttft_s", "p95") for name in (run, other))
    return ours is not None and theirs is not None and theirs < ours * (1 - CHANCE)


def _spread(evaluation: Evaluation) -> Iterator[str]:
    """Each ratio of the seeds together, and of each by itself."""
    yield "## Spread\n\nThe seeds together, and each by itself.\n"
    pairs = [(run, BASE, figure) for run in OURS for figure in SPEEDUPS]
    pairs += [("fastswitch", LIMIT, figure) for figure in ("ttft_p99", "tokens_per_s")]
    together = evaluation.headlines()
    rows = []
    for run, base, figure in pairs:
        cells = []
        for place, result in together.items():
            each = [speedup_cell(one, run, base, figure) for one in evaluation.at(HEADLINE, place)]
            cells.append(f"{speedup_cell(result, run, base, figure)} ({', '.join(each)})")
        rows.append([f"`{run}` over `{base}`: {SPEEDUPS[figure]}", *cells])
    yield table(["ratio", *(f"{setup}, {priority}" for setup, priority in together)], rows)


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

"""What prompts in pieces are worth: token budgets against whole prompts, simulated; all else as in the setup.

    python benchmarks/chunked_prefill.py --json out/chunked_prefill.json --plot out/chunked_prefill.png

Serves the same conversations with ``--packer prefill-first`` and with ``--packer chunked`` at each of ``--budgets``,
and prints a row each: how long residents wait for a token, how long turns wait for their first, tokens a second, and
how many times shorter the residents' tail is than with whole prompts. The smaller the budget the shorter an iteration,
and the more of them read the weights for few tokens; the picture shows what is paid for what.

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from command import Parser, exit_status, output
from rich import box
from rich.console import Console
from rich.table import Table

from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.usage import UsageError, check_writable

__all__ = ["main"]

BUDGETS = "128,256,512,1024,2048,8192"
LATENCIES = ("ttft_s", "tbt_s", "tbt_resident_s")
SWITCHES = ("swap_outs", "swap_ins", "drops", "stall_s", "recomputed_tokens")


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation: of which run, with what packer and budget."""

    run: str
    options: SimulateOptions


def serve(point: Point) -> dict[str, Any]:
    """The figures of one simulation."""
    experiment = prepare_simulation(point.options)
    policy, figures = experiment.bed.spec.policy, experiment.serve(SIMULATED_RUNS[point.run]).figures
    return {
        "packer": policy.packer,
        "token_budget": policy.token_budget,
        **{name: figures[name] for name in (*LATENCIES, "tokens_per_s", "seconds", "iterations")},
        **{name: figures["switches"][name] for name in SWITCHES},
    }


def points(base: SimulateOptions, run: str, budgets: Sequence[int]) -> list[Point]:
    """Whole prompts first, then each budget."""
    chunked = [replace(base, packer="chunked", token_budget=budget) for budget in budgets]
    return [Point(run, options) for options in (base, *chunked)]


def ratio(whole: float | None, pieces: float | None) -> float | None:
    """Of two figures; of too few samples there is none."""
    return None if whole is None or not pieces else whole / pieces


def print_table(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A row a packer, in Markdown; times in ms."""
    table = Table(box=box.MARKDOWN)
    heads = ("packer", "budget", "resident TBT P50", "P99", "P99.9", "max", "TTFT P50", "P95", "tokens/s")
    for head in (*heads, "P99.9 of whole prompts / its", "tokens/s / of whole prompts"):
        table.add_column(head, justify="right", no_wrap=True)
    whole = results[0]
    for each in results:
        tbt, ttft = each["tbt_resident_s"], each["ttft_s"]
        shorter = ratio(whole["tbt_resident_s"]["p99.9"], tbt["p99.9"])
        table.add_row(
            each["packer"],
            str(each["token_budget"]),
            *(_ms(tbt[p]) for p in ("p50", "p99", "p99.9", "max")),
            *(_ms(ttft[p]) for p in ("p50", "p95")),
            f"{each['tokens_per_s']:.0f}",
            "-" if shorter is None else f"{shorter:.1f}",
            f"{each['tokens_per_s'] / whole['tokens_per_s']:.3f}",
        )
    console.print(table)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"


def plot(results: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Write a PNG: tokens a second and TTFT over resident TBT; points of too few samples are left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    panels = (
        ("generated tokens/s", {"ylim": (0, None)}, lambda each: each["tokens_per_s"]),
        ("TTFT P95, s", {"yscale": "log"}, lambda each: each["ttft_s"]["p95"]),
    )
    for axis, (label, scale, figure_of) in zip(axes, panels, strict=True):
        known = [(each, each["tbt_resident_s"]["p99.9"], figure_of(each)) for each in results]
        shown = [(each, tail * 1e3, value) for each, tail, value in known if tail is not None and value is not None]
        pieces = [(tail, value) for each, tail, value in shown if each["packer"] == "chunked"]
        axis.plot(*(zip(*pieces, strict=True) if pieces else ((), ())), "o-", label="chunked, by token budget")
        whole = [(tail, value) for each, tail, value in shown if each["packer"] != "chunked"]
        axis.plot(*(zip(*whole, strict=True) if whole else ((), ())), "*", markersize=14, label="prefill-first")
        for each, tail, value in shown:
            if each["packer"] == "chunked":
                axis.annotate(each["token_budget"], (tail, value), (4, 5), textcoords="offset points", fontsize=8)
        axis.set(xscale="log", xlabel="resident TBT P99.9, ms", ylabel=label, **scale)
        axis.grid(visible=True, which="both", alpha=0.25)
    axes[0].legend(fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def parse(arguments: Sequence[str]) -> tuple[SimulateOptions, str, list[int]]:
    """The options that all simulations share, the run, and the budgets.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setup", default="llama8b-a100")
    parser.add_argument("--run", default="fastswitch", help="how requests are switched")
    parser.add_argument("--budgets", default=BUDGETS, help="tokens in one iteration, with commas between them")
    parser.add_argument("--workload", default="synthetic", help="synthetic, or a trace file")
    parser.add_argument("--conversations", type=int, help="synthetic: 200, a file: all")
    parser.add_argument("--scale", type=float, help="factor on token lengths; 1")
    parser.add_argument("--device-tokens", type=int, help="the setup's")
    parser.add_argument("--rate", type=float, help="conversations a second (Poisson); as recorded, else 1")
    parser.add_argument("--policy", default="priority")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = vars(parser.parse_args(arguments))
    run, budgets = given.pop("run"), given.pop("budgets")
    if run not in SIMULATED_RUNS:
        raise UsageError(f"--run must be one of {', '.join(SIMULATED_RUNS)}, got {run!r}")
    if not all(budget.strip().isdecimal() for budget in budgets.split(",")):
        raise UsageError(f"--budgets must be whole numbers with commas between them, got {budgets!r}")
    command = shlex.join(["python", "benchmarks/chunked_prefill.py", *arguments])
    return SimulateOptions(command=command, **given), run, [int(budget) for budget in budgets.split(",")]


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("chunked_prefill", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print."""
    base, run, budgets = parse(arguments)
    for path in base.outputs:
        check_writable(path)
    todo = points(replace(base, json=None, plot=None), run, budgets)
    experiment = prepare_simulation(todo[0].options)  # what can be refused is refused before any work
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        results = list(processes.map(serve, todo))
    if base.json is not None:
        facts = {**experiment.as_json(), "run": run, "points": results}
        for unused in ("runs", "speedup", "left_out"):
            del facts[unused]
        base.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if base.plot is not None:
        workload = experiment.workload
        load = "" if experiment.load is None else f", load {experiment.load:.2g}"
        served = f"{workload.name}, {len(workload)} conversations{load}"
        plot(results, f"{experiment.bed.title}, simulated | {run} | {served}", base.plot)
    print_table(results, output(250))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

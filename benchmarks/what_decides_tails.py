"""What decides the tails: one thing changed at a time, simulated; the rest as in the setup, at ``--rate``.

    python benchmarks/what_decides_tails.py --json out/what_decides_tails.json

Prints a table for each thing that is changed (load, dispatch cost, update frequency, pattern, device pool, host pool),
a row a value, P95 TTFT of each run and what ``fastswitch`` gains on it. Serves every row with the same conversations.

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

RUNS = ("recompute", "vllm_0_3", "cross_layer", "paper", "fastswitch", "free_switch")
# what is changed |-> options and their values; those of the paper's smaller setup are among them
CHANGES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "load, conversations a second": ("rate", (0.1, 0.2, 0.3, 0.5, 1.0)),
    "dispatch, us a call": ("call_us", (1.0, 3.0, 10.0, 30.0)),
    "updates an iteration": ("frequency", (0.01, 0.02, 0.04, 0.1)),
    "pattern of the levels": ("priority", ("random", "markov")),
    "device pool, tokens": ("device_tokens", (20_000, 40_000, 80_000)),
    "host pool, tokens": ("host_tokens", (20_000, 40_000, 80_000, 160_000, 457_763)),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation: what was changed, to what, and of which run."""

    change: str
    value: Any
    run: str
    options: SimulateOptions


def serve(point: Point) -> dict[str, Any]:
    """The figures of one simulation, and the load that it was under."""
    experiment = prepare_simulation(point.options)
    figures = experiment.serve(SIMULATED_RUNS[point.run]).figures
    switches = figures["switches"]
    return {
        "change": point.change,
        "value": point.value,
        "run": point.run,
        "load": experiment.load,
        **{f"ttft_{p}_s": figures["ttft_s"][p] for p in ("p50", "p95", "p99")},
        **{f"tbt_{p}_s": figures["tbt_s"][p] for p in ("p99", "p99.9")},
        "tbt_resident_p99.9_s": figures["tbt_resident_s"]["p99.9"],
        "tokens_per_s": figures["tokens_per_s"],
        "seconds": figures["seconds"],
        **{name: switches[name] for name in ("swap_outs", "swap_ins", "drops", "stall_s", "recomputed_tokens")},
        "gigabytes": (switches["bytes_out"] + switches["bytes_in"]) / 1e9,
    }


def points(base: SimulateOptions, changes: Sequence[str]) -> list[Point]:
    """Everything to simulate."""
    found = []
    for change in changes:
        option, values = CHANGES[change]
        for value in values:
            options = replace(base, **{option: value})
            found += [Point(change, value, run, options) for run in RUNS]
    return found


def print_tables(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table a change, in Markdown."""
    for change in dict.fromkeys(each["change"] for each in results):
        rows = [each for each in results if each["change"] == change]
        table = Table(title=None, box=box.MARKDOWN)
        for head in (change, "load", *RUNS, "vllm_0_3 / ours", "free / ours", "tokens/s of free"):
            table.add_column(head, justify="right", no_wrap=True)
        for value in dict.fromkeys(each["value"] for each in rows):
            by_run = {each["run"]: each for each in rows if each["value"] == value}
            p95 = {run: by_run[run]["ttft_p95_s"] for run in RUNS}
            ours, free = by_run["fastswitch"], by_run["free_switch"]
            table.add_row(
                f"{value}",
                "-" if ours["load"] is None else f"{ours['load']:.2f}",
                *("-" if seconds is None else f"{seconds:.2f}" for seconds in p95.values()),
                ratio(p95["vllm_0_3"], p95["fastswitch"]),
                ratio(p95["free_switch"], p95["fastswitch"]),
                f"{ours['tokens_per_s'] / free['tokens_per_s']:.3f}",
            )
        console.print(table)


def ratio(theirs: float | None, ours: float | None) -> str:
    """Of two percentiles; one of too few samples is none."""
    return "-" if theirs is None or ours is None else f"{theirs / ours:.2f}"


def parse(arguments: Sequence[str]) -> tuple[SimulateOptions, list[str]]:
    """The options that all simulations share, and what is changed.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setup", default="llama8b-a10")
    parser.add_argument("--workload", default="synthetic")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--scale", type=float, help="factor on token lengths; 1")
    parser.add_argument("--device-tokens", type=int, help="where the pool is not what is changed; the setup's")
    parser.add_argument("--rate", type=float, default=0.3, help="where the load is not what is changed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the first word of what is changed: load, dispatch, updates, ...")
    parser.add_argument("--json", type=Path)
    given = vars(parser.parse_args(arguments))
    only = given.pop("only")
    changes = [change for change in CHANGES if only is None or change.split(",")[0].split()[0] == only]
    if not changes:
        raise UsageError(f"--only must be the first word of one of {'; '.join(CHANGES)}, got {only!r}")
    command = shlex.join(["python", "benchmarks/what_decides_tails.py", *arguments])
    return SimulateOptions(command=command, **given), changes


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("what_decides_tails", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print."""
    base, changes = parse(arguments)
    check_writable(base.json)
    path, base = base.json, replace(base, json=None)
    todo = points(base, changes)
    for options in dict.fromkeys(point.options for point in todo):  # what can be refused is refused before any work
        experiment = prepare_simulation(options)
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        results = list(processes.map(serve, todo))
    if path is not None:
        facts = {"schema": 1, "command": base.command, "environment": dict(experiment.bed.environment())}
        result = {**facts, **experiment.bed.as_json(), "workload": experiment.workload.summary(), "points": results}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_tables(results, output(250))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

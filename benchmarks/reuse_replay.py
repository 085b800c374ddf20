"""How many KV blocks host copies save that are kept across turns ("reuse"), at full scale: no model, no bytes, no GPU.

One workload, with one set of arrivals and levels, is served with and without reuse for each host pool; `replay_case`
says on what. Targets: with the largest host pool at least half fewer blocks swapped out; with each smaller one, which
is meant to be full, fewer bytes moved and not more runs a swap.

    python benchmarks/reuse_replay.py --workload FILE --json out/reuse_replay.json

Exit status: 0 done, be the targets met or missed; 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from command import Parser, exit_status, output
from replay_case import ASSUMPTIONS, SETUP, Case, column, ratio, serve, targets
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fastswitch.engine.environment import environment
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.usage import UsageError, check_writable
from fastswitch.engine.workloads import ArrivalPlan, Workload, plan_arrivals, read_workload, select

__all__ = ["main"]


def print_report(result: Mapping[str, Any], console: Console) -> None:
    """The table, one column a run; whether the load was too much; the targets, met or missed."""
    runs = result["runs"]
    bare = {run["host_tokens"]: run for run in runs if not run["reuse"]}
    columns = [column(run, bare[run["host_tokens"]], result["environment"]["wall_s"][run["name"]]) for run in runs]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("host tokens, reuse", no_wrap=True)
    for run in runs:
        table.add_column(run["name"], justify="right")
    for label in columns[0]:
        table.add_row(label, *(cells[label] for cells in columns))
    console.print(head(result), highlight=False)
    console.print(table)
    for run in runs:
        console.print(load_line(run), highlight=False)
    for each in result["targets"]:
        console.print(target_line(each), highlight=False)


def head(result: Mapping[str, Any]) -> str:
    workload, pools = result["workload"], result["pools"]
    return (
        f"virtual time, no model, no bytes | {workload['name']}: {workload['conversations']} conversations, "
        f"{workload['turns']} turns, {workload['input_tokens']} new and {workload['output_tokens']} generated tokens, "
        f"last start at {workload['last_start_s']:.0f} s | device {pools['device_blocks']} blocks of "
        f"{pools['block_size']} tokens"
    )


def target_line(each: Mapping[str, Any]) -> str:
    verdict = "met" if each["met"] else "MISSED"
    change = f", {ratio(each['reuse'], each['no_reuse']) - 1:+.1%}" if each["no_reuse"] else ""
    figures = f"{each['reuse']:.10g} with reuse, {each['no_reuse']:.10g} without{change}"
    return f"host {each['host_tokens']} tokens, {each['target']}: {verdict} ({figures})"


def load_line(run: Mapping[str, Any]) -> str:
    waited = run["load"]
    grew = f"{waited['open_turns_second_quarter']:.1f} -> {waited['open_turns_last_quarter']:.1f}"
    verdict = "SATURATED, queues grow" if waited["saturated"] else "steady"
    return (
        f"{run['name']}: {verdict}: open turns {grew} (mean of the second, last quarter of the arrivals), "
        f"{waited['conversations_at_last_start']} conversations open at the last start"
    )


def parse(arguments: Sequence[str]) -> list[Case]:
    """The cases that the command line asks for.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workload", required=True, help="a trace file, plain or gzip")
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--min-turns", type=int, default=3, help="drop shorter conversations")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on token lengths")
    parser.add_argument("--device-tokens", type=int, default=40_000)
    parser.add_argument("--host-tokens", default="460000,120000", help="one or more, each with and without reuse")
    parser.add_argument("--frequency", type=float, default=0.04, help="priority updates per iteration")
    parser.add_argument("--priority", default="random", help="random or markov")
    parser.add_argument("--rate", type=float, default=1.0, help="conversations per second (Poisson)")
    parser.add_argument("--think", type=float, default=10.0, help="mean think time in seconds (exponential)")
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--headroom", type=float, default=0.15, help="share of each pool to keep free")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = vars(parser.parse_args(arguments))
    headroom = given.pop("headroom")
    if not 0 <= headroom <= 1:
        raise UsageError(f"--headroom must be in [0, 1], got {headroom:g}")
    hosts = [host_tokens(text) for text in dict.fromkeys(given.pop("host_tokens").split(","))]
    command = shlex.join(["python", "benchmarks/reuse_replay.py", *arguments])
    return [
        Case(BenchOptions(command=command, host_tokens=tokens, **given), tokens, reuse, headroom)
        for tokens in hosts
        for reuse in (True, False)
    ]


def host_tokens(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--host-tokens must be whole numbers with commas between them, got {text!r}") from None


def prepare(cases: Sequence[Case]) -> tuple[Workload, ArrivalPlan]:
    """What all cases serve, and when; everything that can be refused is refused here.

    Raises:
        UsageError: a pool is too small, or the JSON cannot be written.
        WorkloadError: the workload is of no use.
    """
    options = cases[0].options
    check_writable(options.json)
    workload = select(
        read_workload(options.workload, seed=options.seed),
        conversations=options.conversations,
        min_turns=options.min_turns,
        scale=options.scale or 1.0,
        seed=options.seed,
    )
    longest, size = -(-workload.max_context // options.block_size), options.block_size
    if (options.device_tokens or 0) // size < longest:
        raise UsageError(
            f"--device-tokens {options.device_tokens} is too small for the longest conversation "
            f"({workload.max_context} tokens): give at least {longest * size}"
        )
    smallest = min(case.host_tokens for case in cases)
    if smallest < size:
        raise UsageError(f"--host-tokens must be at least one block of {size} tokens, got {smallest}")
    return workload, plan_arrivals(workload, rate=options.rate, think_s=options.think, seed=options.seed)


def measure(cases: Sequence[Case], workload: Workload, plan: ArrivalPlan, console: Console) -> dict[str, Any]:
    """Serve all cases, each in a process; the figures, of which all but ``environment`` depend on the options alone."""
    options = cases[0].options
    with ProcessPoolExecutor(min(len(cases), os.cpu_count() or 1)) as processes:
        served = [processes.submit(timed, case, workload, plan) for case in cases]
        with progress(console, len(cases)) as case_done:
            for future in as_completed(served):
                future.result()
                case_done()
    runs = [future.result()[0] for future in served]
    wall_s = {case.name: future.result()[1] for case, future in zip(cases, served, strict=True)}
    peak_rss_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    device_blocks = (options.device_tokens or 0) // options.block_size
    timing = {"rate": options.rate, "think_s": options.think, "last_start_s": plan.last_start_s}
    return {
        "schema": 1,
        "command": options.command,
        "environment": {**environment(torch.device("cpu")), "wall_s": wall_s, "peak_rss_bytes": peak_rss_bytes},
        "assumptions": ASSUMPTIONS,
        "pools": {"block_size": options.block_size, "device_blocks": device_blocks, "headroom": cases[0].headroom},
        "policy": options.policy_with(SETUP.frequency).as_json(),
        "workload": {**workload.summary(), **timing},
        "runs": runs,
        "targets": targets(runs),
    }


def timed(case: Case, workload: Workload, plan: ArrivalPlan) -> tuple[dict[str, Any], float]:
    """The case's figures, and the seconds that it took."""
    start = time.perf_counter()
    return serve(case, workload, plan), time.perf_counter() - start


@contextlib.contextmanager
def progress(console: Console, num_cases: int) -> Iterator[Callable[[], None]]:
    """A bar of the cases done on a terminal, nothing in a pipe."""
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as shown:
        bar = shown.add_task("cases", total=num_cases)
        yield lambda: shown.advance(bar)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("reuse_replay", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Serve all cases, write and print."""
    cases = parse(arguments)
    workload, plan = prepare(cases)
    result = measure(cases, workload, plan, Console(stderr=True))
    if cases[0].options.json is not None:
        cases[0].options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_report(result, output(200))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Where ``fastswitch`` loses to copies that cost nothing (``free_switch``), in seconds each, simulated.

The runs serve one workload with one set of arrivals. What is lost to *stall* and to requests that are *away* is read
off each run's timeline (`fastswitch.engine.lost_time`); what a *full host* costs, KV that was given up and computed
again, the same run on a host that is never full shows.

    python benchmarks/where_time_goes.py --setup qwen32b-a100 --seeds 0,1,2 --json out/where_time_goes.json

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from command import Parser, exit_status, output
from rich import box
from rich.console import Console
from rich.table import Table

from fastswitch.engine.experiment import Experiment
from fastswitch.engine.lost_time import LostTime
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import SIMULATED_RUNS, RunSpec
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.usage import UsageError, check_writable

__all__ = ["main"]

ROOMY = 1000  # times the device pool: a host that is never full
NO_REUSE = replace(SIMULATED_RUNS["fastswitch"], name="fastswitch, no reuse", reuse=False)


@dataclass(frozen=True, slots=True)
class Account:
    """One run.

    Attributes:
        name: of the run.
        seconds: until the last turn's end, idle time left out.
        tokens_per_s, ttft_p50_s, ttft_p95_s, tbt_max_s: what its users see.
        mean_requests: in an iteration, averaged over time.
        stall_s: seconds of the engine.
        queued_s, copied_s, unseen_s, vacating_s: request-seconds, as `LostTime` has them.
        recomputed_tokens: whose KV had been there once.
        runs_per_swap: runs of blocks that a swap falls into.
        away_s: seconds of the engine that the requests away would have filled.
    """

    name: str
    seconds: float
    tokens_per_s: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tbt_max_s: float | None
    mean_requests: float
    stall_s: float
    queued_s: float
    copied_s: float
    unseen_s: float
    vacating_s: float
    recomputed_tokens: int
    runs_per_swap: float
    away_s: float


def watch(experiment: Experiment, run: RunSpec) -> Account:
    """Serve the experiment's workload with one run."""
    served = experiment.serve(run)
    figures, switches = served.figures, served.figures["switches"]
    lost = LostTime.of(served.timeline)
    return Account(
        name=run.name,
        seconds=figures["seconds"],
        tokens_per_s=figures["tokens_per_s"],
        ttft_p50_s=figures["ttft_s"]["p50"],
        ttft_p95_s=figures["ttft_s"]["p95"],
        tbt_max_s=figures["tbt_s"]["max"],
        **asdict(lost),
        recomputed_tokens=switches["recomputed_tokens"],
        runs_per_swap=switches["runs"] / max(1, sum(switches["ways"].values())),
        away_s=lost.away_s,
    )


def accounts(options: SimulateOptions) -> list[Account]:
    """Of the limit, the run, the run with copies ahead, without reuse, and on a host that is never full."""
    experiment = prepare_simulation(options)
    experiment.records_timelines = True
    run, spec = SIMULATED_RUNS["fastswitch"], experiment.bed.spec
    roomy_bed = replace(experiment.bed, spec=replace(spec, host_blocks=ROOMY * spec.device_blocks))  # type: ignore[type-var]
    roomy = replace(experiment, bed=roomy_bed)
    return [
        watch(experiment, SIMULATED_RUNS["free_switch"]),
        watch(experiment, run),
        watch(experiment, SIMULATED_RUNS["fastswitch+ahead"]),
        watch(experiment, NO_REUSE),
        watch(roomy, replace(run, name="fastswitch, roomy host")),
    ]


def print_report(found: Sequence[Account], console: Console) -> None:
    """A column a run, then the gap and what it is made of."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for each in found:
        table.add_column(each.name, justify="right")
    for name in Account.__dataclass_fields__:
        if name != "name":
            values = [getattr(each, name) for each in found]
            table.add_row(
                name, *("-" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".") for value in values)
            )
    console.print(table)
    free, run, ahead, _, roomy = found
    console.print(
        f"fastswitch takes {run.seconds - free.seconds:.1f} s longer than free_switch ({free.seconds:.0f} s): stall "
        f"{run.stall_s:.1f} s; requests away {run.away_s - free.away_s:.1f} s (in request-seconds: queued "
        f"{run.queued_s:.0f}, copied {run.copied_s:.0f}, unseen {run.unseen_s:.0f}, waiting for room "
        f"{run.vacating_s:.0f}, beside {run.mean_requests:.1f}); full host {run.seconds - roomy.seconds:.1f} s",
        highlight=False,
    )
    if run.ttft_p95_s and free.ttft_p95_s:
        p95, rate = run.ttft_p95_s / free.ttft_p95_s, run.tokens_per_s / free.tokens_per_s
        console.print(f"TTFT P95 is {p95:.3f} times the limit's, tokens/s {rate:.3f} times", highlight=False)
    if run.ttft_p95_s and ahead.ttft_p95_s:
        p95, rate = ahead.ttft_p95_s / run.ttft_p95_s, ahead.tokens_per_s / run.tokens_per_s
        console.print(
            f"copies ahead: TTFT P95 {p95:.3f} times that without, tokens/s {rate:.3f} times", highlight=False
        )


def parse(arguments: Sequence[str]) -> list[SimulateOptions]:
    """The options of the simulations that the command line asks for, one a seed.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setup", default="llama8b-a10")
    parser.add_argument("--workload", default="synthetic")
    for name in ("--conversations", "--min-turns", "--device-tokens", "--host-tokens"):
        parser.add_argument(name, type=int)
    for name in ("--scale", "--rate", "--think", "--frequency", "--call-us"):
        parser.add_argument(name, type=float)
    parser.add_argument("--priority", default="random")
    parser.add_argument("--seeds", default="0", help="with commas between them: a workload each")
    parser.add_argument("--json", type=Path)
    command = shlex.join(["python", "benchmarks/where_time_goes.py", *arguments])
    given = vars(parser.parse_args(arguments))
    try:
        seeds = [int(seed) for seed in given.pop("seeds").split(",")]
    except ValueError:
        raise UsageError("--seeds must be whole numbers with commas between them") from None
    return [SimulateOptions(command=command, seed=seed, **given) for seed in seeds]


def as_json(options: Sequence[SimulateOptions], found: Sequence[Sequence[Account]]) -> Mapping[str, Any]:
    """The setup, and each seed's accounts."""
    bed = prepare_simulation(options[0]).bed
    return {
        "schema": 1,
        "command": options[0].command,
        "environment": dict(bed.environment()),
        **bed.as_json(),
        "pools": {"device_blocks": bed.spec.device_blocks, "host_blocks": bed.spec.host_blocks},
        "results": [
            {"seed": each.seed, "runs": [asdict(run) for run in runs]}
            for each, runs in zip(options, found, strict=True)
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("where_time_goes", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print."""
    options = parse(arguments)
    path = options[0].json
    check_writable(path)
    with ProcessPoolExecutor(min(len(options), os.cpu_count() or 1)) as processes:
        found = list(processes.map(accounts, [replace(each, json=None) for each in options]))
    if path is not None:
        path.write_text(json.dumps(as_json(options, found), indent=1) + "\n", encoding="utf-8")
    console = output(200)
    for each, runs in zip(options, found, strict=True):
        console.print(f"seed {each.seed}", highlight=False)
        print_report(runs, console)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

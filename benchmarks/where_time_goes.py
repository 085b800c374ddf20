"""Where ``fastswitch`` loses to copies that cost nothing (``free_switch``), in seconds each, simulated.

The runs serve one workload with one set of arrivals. Three things cost something:

- *stall*: the engine stood still for copies, in seconds of the engine;
- *away*: requests that were wanted on the device and not there, in request-seconds: queued for the link, being copied,
  landed and not yet seen by an iteration, or waiting for room that a victim was still being copied out of. Divided by
  the mean number of requests in an iteration they are seconds of the engine: a smaller batch takes hardly less time;
- *full host*: KV that was given up and computed again; the same run on a host that is never full shows it.
    python benchmarks/where_time_goes.py --setup qwen32b-a100 --seeds 0,1,2 --json out/where_time_goes.json

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import bisect
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from command import Parser, exit_status, output
from rich import box
from rich.console import Console
from rich.table import Table

from fastswitch.engine import Engine, SwapReport
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.metrics import latencies
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import SIMULATED_RUNS, RunSpec
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.simulator.roofline import Roofline
from fastswitch.engine.usage import UsageError, check_writable
from fastswitch.memory import SwapDirection

__all__ = ["main"]

ROOMY = 1000  # times the device pool: a host that is never full
NO_REUSE = replace(SIMULATED_RUNS["fastswitch"], name="fastswitch, no reuse", reuse=False)


class RecordingRoofline:
    """A roofline that remembers of each iteration how long it took and how many requests were in it."""

    def __init__(self, roofline: Roofline) -> None:
        self._roofline = roofline
        self.iterations: list[tuple[float, int]] = []

    def seconds(self, chunks: Iterable[tuple[int, int, bool]]) -> float:
        """As the roofline says."""
        batch = list(chunks)
        self.iterations.append((self._roofline.seconds(batch), len(batch)))
        return self.iterations[-1][0]


@dataclass(frozen=True, slots=True)
class Account:
    """One run.

    Attributes:
        name: of the run.
        seconds: until the last turn's end, idle time left out.
        tokens_per_s, ttft_p50_s, ttft_p95_s, tbt_max_s: what its users see.
        mean_requests: in an iteration, averaged over time.
        stall_s: seconds of the engine.
        queued_s, copied_s, unseen_s: request-seconds of swap-ins: before and during the copy, and until it was seen.
        vacating_s: request-seconds of swap-outs, from the eviction until the room was seen; none where a return took
            the room before, whose copy was queued behind that one.
        recomputed_tokens: whose KV had been there once.
        runs_per_swap: runs of blocks that a swap falls into.
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

    @property
    def away_s(self) -> float:
        """Seconds of the engine that the requests away would have filled."""
        return (self.queued_s + self.copied_s + self.unseen_s + self.vacating_s) / self.mean_requests


def watch(experiment: Experiment, run: RunSpec) -> Account:
    """Serve the experiment's workload with one run."""
    recording = RecordingRoofline(experiment.bed.roofline)  # type: ignore[attr-defined]
    bed = replace(experiment.bed, roofline=recording)  # type: ignore[type-var]
    starts: list[float] = []
    with bed.engine(run) as engine:

        def after_step(_turns_ended: int) -> None:
            if len(starts) < engine.executed_iterations:
                starts.append(engine.clock.now() - recording.iterations[-1][0])

        def prompt(conversation: int, turn: int) -> Sequence[int]:
            return bed.prompt_tokens(experiment.workload, conversation, turn)

        replay = Replay(engine, experiment.workload, experiment.plan, prompt, after_step)
        replay.run()
        return account(run.name, engine, replay, recording.iterations, starts)


def account(
    name: str, engine: Engine, replay: Replay, iterations: Sequence[tuple[float, int]], starts: Sequence[float]
) -> Account:
    """What a run that has been served has cost; ``iterations`` and when each started, as they were recorded."""
    tails = latencies(replay.turns.values())
    outs, ins = (
        [report for report in engine.counts.of(direction) if not report.job.ahead]  # nobody waits for those
        for direction in SwapDirection
    )
    handed_over = {job for report in ins for job in report.job.after}
    num_tokens = sum(len(turn.generated) for turn in replay.turns.values())
    figures = engine.counts.as_json(engine.stall_s)
    return Account(
        name=name,
        seconds=replay.seconds,
        tokens_per_s=num_tokens / replay.seconds,
        ttft_p50_s=tails["ttft_s"]["p50"],
        ttft_p95_s=tails["ttft_s"]["p95"],
        tbt_max_s=tails["tbt_s"]["max"],
        mean_requests=sum(seconds * n for seconds, n in iterations) / sum(seconds for seconds, _ in iterations),
        stall_s=engine.stall_s,
        queued_s=sum(report.queue_s for report in ins),
        copied_s=sum(report.copy_s for report in ins),
        unseen_s=sum(unseen_s(report, starts) for report in ins),
        vacating_s=sum(
            report.queue_s + report.copy_s + unseen_s(report, starts)
            for report in outs
            if report.job not in handed_over
        ),
        recomputed_tokens=engine.counts.recomputed_tokens,
        runs_per_swap=figures["runs"] / max(1, len(engine.counts.reports)),
    )


def unseen_s(report: SwapReport, starts: Sequence[float]) -> float:
    """Seconds from the end of a job's copies to the iteration that could use what they brought."""
    done_s = report.copy_done.at_s  # type: ignore[union-attr]
    next_start = bisect.bisect_left(starts, done_s)
    return starts[next_start] - done_s if next_start < len(starts) else 0.0


def accounts(options: SimulateOptions) -> list[Account]:
    """Of the limit, the run, the run with copies ahead, without reuse, and on a host that is never full."""
    experiment = prepare_simulation(options)
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
            {"seed": each.seed, "runs": [{**asdict(run), "away_s": run.away_s} for run in runs]}
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

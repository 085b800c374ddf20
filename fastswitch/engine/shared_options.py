"""What ``fastswitch bench`` and ``simulate`` both take: type, name and help; defaults are the commands'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastswitch.engine.runs import RUNS, SIMULATED_RUNS

__all__ = [
    "Aging",
    "Arrival",
    "BlockSize",
    "Clients",
    "ClientsPlot",
    "Decisions",
    "Evictor",
    "GrowthBlocks",
    "Horizon",
    "Json",
    "MinLevels",
    "MinStay",
    "MinTurns",
    "Packer",
    "Plot",
    "PolicyOption",
    "Priority",
    "Runs",
    "Seed",
    "SimulatedRuns",
    "TbtTarget",
    "TimeScale",
    "TimelineOption",
    "TokenBudget",
    "TraceOut",
    "Victims",
    "WorkloadOption",
]

WorkloadOption = Annotated[str, typer.Option("--workload", help="synthetic, or a trace file (plain or gzip)")]
MinTurns = Annotated[int | None, typer.Option("--min-turns", help="drop shorter ones; 3 where they are synthetic")]
Arrival = Annotated[str, typer.Option("--arrival", help="what --rate counts: conversation or turn")]
TimeScale = Annotated[float | None, typer.Option("--time-scale", help="factor on recorded times")]
PolicyOption = Annotated[str, typer.Option("--policy", help="fcfs, priority, vtc, vtc-preemptive or mlfq")]
Priority = Annotated[
    str | None,
    typer.Option("--priority", help="levels: random, markov, or a file of update,conversation,level"),
]
Aging = Annotated[
    int | None, typer.Option("--aging", help="iterations without service until a turn comes before everybody; never")
]
Horizon = Annotated[
    int | None, typer.Option("--horizon", help="tokens by which clients may drift apart, of vtc-preemptive; 16")
]
Packer = Annotated[str, typer.Option("--packer", help="prefill-first or chunked")]
Evictor = Annotated[str, typer.Option("--evictor", help="of runs that copy: swap-out, recompute or cheapest")]
TokenBudget = Annotated[
    int | None, typer.Option("--token-budget", help="tokens in one iteration; 8192, of chunked 512")
]
TbtTarget = Annotated[
    float | None, typer.Option("--tbt-target", help="ms between tokens, in place of the budget of chunked")
]
Victims = Annotated[str, typer.Option("--victims", help="whom to push out: lowest-rank or least-bytes")]
MinLevels = Annotated[int, typer.Option("--min-levels", help="levels by which one that pushes another out is better")]
MinStay = Annotated[int, typer.Option("--min-stay", help="tokens that one generates before it may be pushed out")]
BlockSize = Annotated[int, typer.Option("--block-size", help="tokens in a block")]
GrowthBlocks = Annotated[int, typer.Option("--growth-blocks", help="blocks a growing request reserves ahead")]
Runs = Annotated[str | None, typer.Option("--runs", help=f"comma-separated, default all: {', '.join(RUNS)}")]
SimulatedRuns = Annotated[
    str | None, typer.Option("--runs", help=f"comma-separated, default all: {', '.join(SIMULATED_RUNS)}")
]
Seed = Annotated[int, typer.Option("--seed", help="of everything that is drawn")]
Json = Annotated[Path | None, typer.Option("--json", help="write the figures here")]
Plot = Annotated[Path | None, typer.Option("--plot", help="write a PNG of the tails here")]
TraceOut = Annotated[
    Path | None,
    typer.Option("--trace-out", help="write what happened when here, for ui.perfetto.dev; .json or .json.gz"),
]
Decisions = Annotated[
    Path | None, typer.Option("--decisions", help="write what was decided in each iteration here; .jsonl or .jsonl.gz")
]
TimelineOption = Annotated[Path | None, typer.Option("--timeline", help="write a PNG of the busiest moment here")]
Clients = Annotated[
    str | None,
    typer.Option("--clients", help="how many, a workload that records them, or a table client_id,weight"),
]
ClientsPlot = Annotated[Path | None, typer.Option("--clients-plot", help="write a PNG of each client's service here")]

"""What ``fastswitch bench`` and ``simulate`` both take: type, name and help; defaults are the commands'."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fastswitch.engine.policy_choices import EVICTORS, PACKERS, PATTERNS, RANKERS, VICTIMS
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


def _one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


WorkloadOption = Annotated[str, typer.Option("--workload", help="synthetic, or a trace file (plain or gzip)")]
MinTurns = Annotated[int | None, typer.Option("--min-turns", help="drop shorter ones; 3 where they are synthetic")]
Arrival = Annotated[str, typer.Option("--arrival", help="what --rate counts: conversation or turn")]
TimeScale = Annotated[float | None, typer.Option("--time-scale", help="factor on recorded times")]
PolicyOption = Annotated[str, typer.Option("--policy", help=_one_of(RANKERS))]
Priority = Annotated[
    str | None,
    typer.Option("--priority", help=f"levels: {', '.join(PATTERNS)}, or a file of update,conversation,level"),
]
Aging = Annotated[
    int | None, typer.Option("--aging", help="iterations without service until a turn comes before everybody; never")
]
Horizon = Annotated[
    int | None, typer.Option("--horizon", help="tokens by which clients may drift apart, of vtc-preemptive; 16")
]
Packer = Annotated[str, typer.Option("--packer", help=_one_of(PACKERS))]
Evictor = Annotated[str, typer.Option("--evictor", help=f"of runs that copy: {_one_of(EVICTORS)}")]
TokenBudget = Annotated[
    int | None,
    typer.Option(
        "--token-budget",
        help="tokens in one iteration; " + ", ".join(f"{name} {each.token_budget}" for name, each in PACKERS.items()),
    ),
]
TbtTarget = Annotated[
    float | None, typer.Option("--tbt-target", help="ms between tokens, in place of the budget of chunked")
]
Victims = Annotated[str, typer.Option("--victims", help=f"whom to push out: {_one_of(VICTIMS)}")]
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

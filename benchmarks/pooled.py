"""What the sweeps of scheduling share: their options, one simulation's figures, and those of several seeds pooled.

A percentile of three seeds' samples together is steadier than the mean of three; it says what a user of any of the
three runs would see.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import Parser

from fastswitch.engine.environment import environment
from fastswitch.engine.metrics import tail
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.usage import UsageError, check_writable

__all__ = ["Point", "pool", "run_sweep", "seeds_of", "serve_all"]

RUN = "fastswitch"
MOST_PROCESSES = 2
COUNTED = ("swap_outs", "swap_ins", "clean_evictions", "drops", "recomputed_tokens", "bytes_out", "bytes_in")


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation.

    Attributes:
        key: what it is pooled under; the seed is not part of it.
        options: of the run ``fastswitch``.
    """

    key: Hashable
    options: SimulateOptions


def run_sweep(
    script: str,
    arguments: Sequence[str],
    description: str,
    places: Mapping[str, Any],
    points: Callable[[Mapping[str, Any], Sequence[str], Sequence[int]], list[Point]],
    rows_of: Callable[[dict[Hashable, dict[str, Any]]], list[dict[str, Any]]],
    plot: Callable[[list[dict[str, Any]], str, Path], None],
) -> list[dict[str, Any]]:
    """Simulate what a sweep asks for, and write its files; its rows.

    Args:
        script: its name, without ``.py``.
        arguments: of its command line.
        description: of what it does, a line.
        places: name |-> what ``--only`` may choose; for the JSON.
        points: (options of all, places, seeds) |-> everything to simulate.
        rows_of: key |-> figures of its seeds together, to rows.
        plot: draws the rows under a title into a file.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=description)
    parser.add_argument("--conversations", type=int, default=60)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--only", choices=places, help="one place")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args(arguments)
    for path in (given.json, given.plot):
        check_writable(path)
    command = shlex.join(["python", f"benchmarks/{script}.py", *arguments])
    base = {"command": command, "conversations": given.conversations}
    todo = points(base, list(places) if given.only is None else [given.only], seeds_of(given.seeds))
    results = pool(todo, serve_all(todo))
    if any(figures["ttft_p95_s"] is None for figures in results.values()):
        raise UsageError(f"too few turns for a P95 with --conversations {given.conversations}: give more")
    rows = rows_of(results)
    if given.json is not None:
        facts = {"schema": 1, "command": command, "environment": environment(torch.device("cpu")), "simulated": True}
        shared = {"conversations": given.conversations, "seeds": given.seeds, "places": places, "rows": rows}
        given.json.write_text(json.dumps({**facts, **shared}, indent=1) + "\n", encoding="utf-8")
    if given.plot is not None:
        plot(rows, f"{command}   (simulated)", given.plot)
    return rows


def serve(point: Point) -> dict[str, Any]:
    """The figures of one simulation; TTFT as samples, so that seeds can be pooled."""
    served = prepare_simulation(point.options).serve(SIMULATED_RUNS[RUN])
    figures = served.figures
    return {
        "seed": point.options.seed,
        "ttft_s": served.samples["ttft_s"],
        "tokens": figures["tokens_per_s"] * figures["seconds"],
        "seconds": figures["seconds"],
        **{name: figures["switches"][name] for name in COUNTED},
    }


def serve_all(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The figures of each, with a line on stderr as they come; refused before any work if one of them can be."""
    for point in points:
        prepare_simulation(point.options)
    with ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1)) as processes:
        found = []
        for point, figures in zip(points, processes.map(serve, points), strict=True):
            found.append(figures)
            p95 = np.percentile(figures["ttft_s"], 95)
            sys.stderr.write(f"{len(found)} of {len(points)}: {point.key}, seed {figures['seed']}, P95 {p95:.3f} s\n")
        return found


def pool(points: Sequence[Point], served: Sequence[Mapping[str, Any]]) -> dict[Hashable, dict[str, Any]]:
    """Key |-> the figures of its seeds together: percentiles of all samples, sums of all counts."""
    found: dict[Hashable, dict[str, Any]] = {}
    for key in dict.fromkeys(point.key for point in points):
        runs = [figures for point, figures in zip(points, served, strict=True) if point.key == key]
        ttft = tail(np.concatenate([run["ttft_s"] for run in runs]))
        found[key] = {
            **{f"ttft_{name}_s": ttft[name] for name in ("p50", "p95", "p99")},
            "ttft_p95_s_by_seed": {run["seed"]: tail(run["ttft_s"])["p95"] for run in runs},
            "tokens_per_s": sum(run["tokens"] for run in runs) / sum(run["seconds"] for run in runs),
            **{name: sum(run[name] for run in runs) for name in COUNTED},
        }
    return found


def seeds_of(text: str) -> list[int]:
    """Whole numbers with commas between them.

    Raises:
        UsageError: in one line.
    """
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds must be whole numbers with commas between them, got {text!r}") from None

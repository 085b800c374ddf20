"""What a command does with an experiment beside running it: bars while it runs, then files and tables."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.chrome_trace import write_trace
from fastswitch.engine.client_plot import plot_clients
from fastswitch.engine.decision_file import write_decisions
from fastswitch.engine.experiment import Experiment, Progress
from fastswitch.engine.options import ExperimentOptions
from fastswitch.engine.plots import plot_tails
from fastswitch.engine.report import LATENCIES, print_report
from fastswitch.engine.timeline_plot import plot_timelines
from fastswitch.engine.usage import writing

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_tables", "progress_bars", "write_files"]


@contextlib.contextmanager
def progress_bars(runs: Sequence[str], console: Console) -> Iterator[Progress | None]:
    """A bar a run on a terminal, nothing in a pipe; what is yielded moves them."""
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TextColumn("turns"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as shown:
        bars = {name: shown.add_task(name, total=None, start=False) for name in runs}

        def update(name: str, done: int, total: int) -> None:
            shown.start_task(bars[name])
            shown.update(bars[name], completed=done, total=total)

        yield update


def write_files(experiment: Experiment, options: ExperimentOptions, title: str) -> None:
    """Write JSON, trace, schedules and pictures of the runs finished so far, each if it is asked for.

    Raises:
        UsageError: if one cannot be written after all; those behind it are not.
    """
    facts = {"command": options.command, "from": experiment.bed.head()}
    weights = experiment.bed.spec.policy.weights
    writers: dict[str, Callable[[Path], object]] = {
        "json": lambda path: path.write_text(json.dumps(experiment.as_json(), indent=1) + "\n", encoding="utf-8"),
        "trace_out": lambda path: write_trace(experiment.timelines, path, facts),
        "decisions": lambda path: write_decisions(experiment.schedules, path),
        "plot": lambda path: plot_tails(_labelled(experiment), title, path),
        "timeline": lambda path: plot_timelines(experiment.timelines, title, path),
        "clients_plot": lambda path: plot_clients(experiment.services, weights, title, path),
    }
    for name, write in writers.items():
        path = getattr(options, name)
        if path is not None:
            with writing(path):
                write(path)


def _labelled(experiment: Experiment) -> dict[str, dict[str, NDArray[np.float64]]]:
    labels = dict(LATENCIES)
    return {
        run: {labels[metric]: seconds for metric, seconds in of_run.items()}
        for run, of_run in experiment.samples.items()
    }


def print_tables(experiment: Experiment, notes: Sequence[str]) -> None:
    """Print the report, then ``notes``, a line each."""
    from rich.console import Console

    # In a pipe rich assumes 80 columns and would break the lines.
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as report:
        print_report(experiment, console, notes)
    try:
        sys.stdout.write(report.get())
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough; what is written is written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

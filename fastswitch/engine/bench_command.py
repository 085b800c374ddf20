"""What ``fastswitch bench`` does around an experiment: progress, table, files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

from fastswitch.engine.bench import prepare
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.plots import plot_tails
from fastswitch.engine.report import LATENCIES, print_report
from fastswitch.engine.token_check import equivalent

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_bench"]


def run_bench(options: BenchOptions) -> None:
    """Run, write and print; on Ctrl-C with what was measured so far, and the interrupt goes on.

    Raises:
        RuntimeError: if the runs' tokens differ by more than a near tie; everything is written and printed before.
    """
    from rich.console import Console

    errors = Console(stderr=True)
    with errors.status("loading and measuring") if errors.is_terminal else contextlib.nullcontext():
        experiment = prepare(options)
    try:
        _run_with_progress(experiment, errors)
    finally:
        if experiment.results:
            _write(experiment)
            _print(experiment)
    if not equivalent(experiment):
        raise RuntimeError("the runs gave different tokens, and not at a near tie: a request's KV was wrong")


def _run_with_progress(experiment: Experiment, console: Console) -> None:
    """A bar on a terminal, nothing in a pipe."""
    if not console.is_terminal:
        experiment.run_all()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TextColumn("turns"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bars = {run.name: progress.add_task(run.name, total=None, start=False) for run in experiment.runs}

        def update(name: str, done: int, total: int) -> None:
            progress.start_task(bars[name])
            progress.update(bars[name], completed=done, total=total)

        experiment.run_all(update)


def _print(experiment: Experiment) -> None:
    from rich.console import Console

    # In a pipe rich assumes 80 columns and would break the lines.
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as report:
        print_report(experiment, console)
    try:
        sys.stdout.write(report.get())
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough; what is written is written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(experiment: Experiment) -> None:
    options = experiment.options
    if options.json is not None:
        options.json.write_text(json.dumps(experiment.as_json(), indent=1) + "\n", encoding="utf-8")
    if options.plot is not None:
        link = experiment.spec.link
        title = options.command if link is None else f"{options.command}   (link emulated)"
        labels = dict(LATENCIES)
        samples = {
            run: {labels[metric]: seconds for metric, seconds in of_run.items()}
            for run, of_run in experiment.samples.items()
        }
        plot_tails(samples, title, options.plot)

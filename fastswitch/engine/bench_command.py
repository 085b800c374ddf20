"""What ``fastswitch bench`` does around an experiment: progress, table, files, and a verdict on the tokens."""

from __future__ import annotations

import contextlib

from fastswitch.engine.bench import prepare
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.presenting import print_tables, progress_bars, write_files
from fastswitch.engine.token_check import describe_differences, equivalent

__all__ = ["run_bench"]


def run_bench(options: BenchOptions) -> None:
    """Run, write and print; on Ctrl-C with what was measured so far, and the interrupt goes on.

    Raises:
        RuntimeError: if the runs' tokens differ by more than a near tie; everything is written and printed before.
    """
    from rich.console import Console

    errors = Console(stderr=True)
    with errors.status("loading and measuring") if errors.is_terminal else contextlib.nullcontext():
        experiment, bed = prepare(options)
    try:
        with progress_bars([run.name for run in experiment.runs], errors) as progress:
            experiment.run_all(progress)
    finally:
        if experiment.results:
            title = options.command if bed.link is None else f"{options.command}   (link emulated)"
            print_tables(experiment, _token_notes(experiment, bed))
            write_files(experiment, options, title)
    if not equivalent(experiment, bed):
        raise RuntimeError("the runs gave different tokens, and not at a near tie: a request's KV was wrong")


def _token_notes(experiment: Experiment, bed: ModelBed) -> list[str]:
    """Whether all finished runs gave the same tokens; where they first part, if they do."""
    runs, notes = experiment.results, []
    if experiment.same_tokens():
        notes.append(f"all {len(runs)} runs gave the same tokens: sha256 {runs[0]['tokens_sha256'][:16]}")
    return notes + describe_differences(experiment, bed)

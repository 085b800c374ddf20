"""What ``fastswitch simulate`` does around an experiment: runs side by side, progress, files and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastswitch.engine.experiment import Experiment, Progress, Served
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.presenting import print_tables, progress_bars, write_files
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.simulator.processes import CONTEXT, num_cores, side_by_side

__all__ = ["run_simulation"]

SHORT_TOKENS = 50_000  # generated in all runs: less is simulated sooner than a process has started


def run_simulation(options: SimulateOptions) -> None:
    """Simulate, write and print; on Ctrl-C what is done so far, and the interrupt goes on."""
    from rich.console import Console

    experiment = prepare_simulation(options)
    try:
        with progress_bars([run.name for run in experiment.runs], Console(stderr=True)) as progress:
            for served in _serve_all(experiment, progress):
                experiment.enter(served)
    finally:
        if experiment.results:
            print_tables(experiment, [])
            write_files(experiment, options, f"{options.command}   (simulated)")


def _serve_all(experiment: Experiment, progress: Progress | None) -> Iterator[Served]:
    """Each run's figures as it ends: runs do not know of each other, so each core has its own."""
    num_runs = len(experiment.runs)
    total = experiment.workload.output_tokens * num_runs
    if min(num_cores(), num_runs) == 1 or total < SHORT_TOKENS:
        for run in experiment.runs:
            yield experiment.serve(run, progress)
        return
    turns_ended = CONTEXT.Array("q", num_runs, lock=False)

    def show() -> None:
        if progress is not None:
            _show(experiment, turns_ended, progress)

    work = side_by_side(_serve, range(num_runs), initializer=_begin, initargs=(experiment, turns_ended), on_poll=show)
    for _, served in work:
        yield served


def _show(experiment: Experiment, turns_ended: Any, progress: Progress) -> None:
    for run, ended in zip(experiment.runs, turns_ended, strict=True):
        if ended:
            progress(run.name, ended, experiment.workload.num_turns)


# In a worker

_work: dict[str, Any] = {}  # what the worker was started with


def _begin(experiment: Experiment, turns_ended: Any) -> None:
    _work.update(experiment=experiment, turns_ended=turns_ended)


def _serve(index: int) -> Served:
    experiment, turns_ended = _work["experiment"], _work["turns_ended"]
    run: RunSpec = experiment.runs[index]

    def progress(_name: str, ended: int, _total: int) -> None:
        turns_ended[index] = ended

    served: Served = experiment.serve(run, progress)
    return replace(served, turns={})  # every token's time: nobody asks for them

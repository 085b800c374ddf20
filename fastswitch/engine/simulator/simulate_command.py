"""What ``fastswitch simulate`` does around an experiment: runs side by side, progress, files and tables."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from typing import Any

from fastswitch.engine.experiment import Experiment, Progress, Served
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.presenting import print_tables, progress_bars, write_files
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator.prepare import prepare_simulation

__all__ = ["run_simulation"]

SHORT_TOKENS = 50_000  # generated in all runs: less is simulated sooner than a process has started
POLL_S = 0.2


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
    cores = os.cpu_count() or 1
    total = experiment.workload.output_tokens * len(experiment.runs)
    if min(cores, len(experiment.runs)) == 1 or total < SHORT_TOKENS:
        for run in experiment.runs:
            yield experiment.serve(run, progress)
        return
    context = multiprocessing.get_context("spawn")
    turns_ended = context.Array("q", len(experiment.runs), lock=False)
    workers = ProcessPoolExecutor(
        min(cores, len(experiment.runs)), context, initializer=_begin, initargs=(experiment, turns_ended)
    )
    try:
        left = _submit_all(workers, len(experiment.runs))
        while left:
            done, _ = wait(left, POLL_S, FIRST_COMPLETED)
            if progress is not None:
                _show(experiment, turns_ended, progress)
            for future in done:
                left.remove(future)
                yield future.result()
    except BaseException:
        _stop(workers)
        raise
    workers.shutdown()


def _submit_all(workers: ProcessPoolExecutor, num_runs: int) -> list[Future[Served]]:
    """Start the workers, which ignore Ctrl-C: this process ends them, and says in one line why."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process that is spawned inherits it
    try:
        return [workers.submit(_serve, index) for index in range(num_runs)]
    finally:
        signal.signal(signal.SIGINT, before)


def _show(experiment: Experiment, turns_ended: Any, progress: Progress) -> None:
    for run, ended in zip(experiment.runs, turns_ended, strict=True):
        if ended:
            progress(run.name, ended, experiment.workload.num_turns)


def _stop(workers: ProcessPoolExecutor) -> None:
    """End what still runs: nobody wants it any more."""
    processes = list((workers._processes or {}).values())  # noqa: SLF001  # what 3.14 calls `kill_workers`
    workers.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


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

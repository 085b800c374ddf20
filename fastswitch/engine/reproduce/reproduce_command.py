"""What ``fastswitch reproduce`` does around the evaluation: a bar, files, and a table of its own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from fastswitch.engine.environment import environment
from fastswitch.engine.reproduce.beside_paper import main_table
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.finished import Finished
from fastswitch.engine.reproduce.pictures import draw_pictures
from fastswitch.engine.reproduce.report import report
from fastswitch.engine.reproduce.reproduce_options import REPORT, ReproduceOptions
from fastswitch.engine.reproduce.run_plan import OnDone, evaluate
from fastswitch.engine.reproduce.verdicts import verdicts
from fastswitch.engine.usage import UsageError, check_writable, writing

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_reproduce"]

FINISHED, FIGURES = "finished", "reproduce.json"


def run_reproduce(options: ReproduceOptions) -> None:
    """Simulate, write and print; on Ctrl-C what is complete so far, and the interrupt goes on.

    Raises:
        UsageError: a path or the workload is of no use.
    """
    from rich.console import Console

    try:
        finished = Finished(options.report / FINISHED)
    except OSError as error:
        raise UsageError(f"cannot write in {options.report}: {error.strerror}; choose another --report") from error
    check_writable(options.json)
    evaluation = Evaluation(options)
    try:
        with _bar(Console(stderr=True)) as on_done:
            evaluate(evaluation, finished, on_done)
    finally:
        if evaluation.results:
            _write(evaluation)
            _print(evaluation)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[OnDone]:
    """Simulations done of all, and the time left; nothing in a pipe."""
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("simulations"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as shown:
        bar = shown.add_task("", total=None)
        yield lambda done, total: shown.update(bar, completed=done, total=total)


def _write(evaluation: Evaluation) -> None:
    """The figures, once more where asked; then the report with its pictures."""
    folder, facts = evaluation.asked.report, environment(torch.device("cpu"))
    figures = json.dumps(evaluation.as_json(facts), indent=1) + "\n"
    for path in (folder / FIGURES, evaluation.asked.json):
        if path is not None:
            with writing(path):
                path.write_text(figures, encoding="utf-8")
    with writing(folder):
        pictures = draw_pictures(evaluation, folder)
        (folder / REPORT).write_text(report(evaluation, facts, pictures), encoding="utf-8")


def _print(evaluation: Evaluation) -> None:
    lines = [main_table(evaluation), *verdicts(evaluation), f"report: {evaluation.asked.report / REPORT}"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()

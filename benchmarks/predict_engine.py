"""The simulator against the real engine: one workload, on a model here and on a preset calibrated here; and the error.

The real side is ``fastswitch bench``: a small model on the CPU, an emulated link. Nothing of the prediction is fitted
to the runs that are predicted: iterations (`cpu_preset`), jobs' copies (`copy_times`) and the loop's own time, which is
what a simulation of the run takes here, are measured by themselves, once before each measured run, so that both sides
see the same machine. torch has one thread: then the model has a core to itself where there are two.

    python benchmarks/predict_engine.py --json out/predict-engine.json

Exit status: 0 done, whatever the error; 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from command import Parser, exit_status, output
from prediction_report import print_report
from predictor import Predictor
from rich.console import Console
from rich.progress import Progress

from fastswitch.engine.attention import RefusedModelError
from fastswitch.engine.bench import prepare
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.usage import UsageError

__all__ = ["main"]

RUNS = "recompute,vllm_0_3,cross_layer,+groups,paper,fastswitch"
MOST = 1000  # repeats and threads: what is beyond is a slip


def parse(arguments: Sequence[str]) -> tuple[BenchOptions, int, int]:
    """Options of the bench, repeats and threads.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--workload", default="synthetic", help="synthetic, or a trace file")
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--min-turns", type=int, help="drop shorter conversations")
    parser.add_argument("--scale", type=float, help="factor on token lengths")
    parser.add_argument("--device-tokens", type=int, default=640)
    parser.add_argument("--block-size", type=int, default=4)
    parser.add_argument("--frequency", type=float, help="priority updates per iteration")
    parser.add_argument("--call-us", type=float, help="of the emulated link")
    parser.add_argument("--link-gbps", type=float, help="of the emulated link")
    parser.add_argument("--runs", default=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3, help="times that each run is measured")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = vars(parser.parse_args(arguments))
    repeat, threads = given.pop("repeat"), given.pop("threads")
    for name, value in (("repeat", repeat), ("threads", threads)):
        if not 1 <= value <= MOST:
            raise UsageError(f"--{name} must be a number of at least 1 and at most {MOST}, got {value}")
    command = shlex.join(["python", "benchmarks/predict_engine.py", *arguments])
    return BenchOptions(command=command, **given), repeat, threads


def measure(options: BenchOptions, repeat: int, threads: int, console: Console) -> dict[str, Any]:
    """Prepare, measure, predict; the JSON's object.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
        RefusedModelError: the model is.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        predictor = Predictor(*prepare(options))
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("runs", total=repeat * len(predictor.runs))
            for _ in range(repeat):
                for run in predictor.runs:
                    predictor.measure(run)
                    progress.advance(bar)
        return predictor.as_json()
    finally:
        torch.set_num_threads(before)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("predict_engine", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Measure, predict, write and print."""
    options, repeat, threads = parse(arguments)
    try:
        result = measure(options, repeat, threads, Console(stderr=True))
    except RefusedModelError as error:
        raise UsageError(str(error)) from None
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_report(result, output(160))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

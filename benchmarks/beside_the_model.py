"""How fast the demo's model runs beside the coordinator's copies, relative to alone; and the copies beside the model.

- *at the demo's share*: the demo is served once; then its jobs are copied beside the model for that share of the time.
- *without a pause*: copies one after the other, block by block or in runs, in either order of the pools, and as chosen.
- *the engine's thread*: what ``submit`` and ``landed`` take of it, as a share of an iteration of 64 decodes.

Every ratio is of two measurements one right after the other; the figure is the median over the rounds in which the
machine was quiet, and there is none where no round was. One torch thread, so two cores have one for model and copies
each.

    python benchmarks/beside_the_model.py --json out/beside-the-model.json

Exit status: 0 done, whatever the verdicts; 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from command import Parser, exit_status, output
from demo_copies import DemoCopies, demo_options, serve_demo
from paced_copies import PacedCopies
from quiet_rounds import Samples, add_options, check_options, measure_in_turn
from rich import box
from rich.console import Console
from rich.table import Table
from swap_cost import IN_FLIGHT, RESIDENTS, SwapCost
from targets import Target, print_targets
from tiny_decodes import Decodes, one_thread
from unbroken_copies import UnbrokenCopies

from fastswitch.engine.options import BenchOptions
from fastswitch.engine.usage import check_writable

__all__ = ["main"]

# name |-> (order of the pools, transfer)
WAYS = {
    "per block, layer-major": ("layer_major", "per_block"),
    "runs, layer-major": ("layer_major", "per_run"),
    "runs, block-major": ("block_major", "per_run"),
    "chosen, block-major": ("block_major", "chosen"),
}
PIECES = next(iter(WAYS))  # what the others are compared with
LEAST_MODEL_SPEED, MOST_SHARE = 0.95, 0.03
ASKED = 30  # times that submit and landed are timed in a round


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured.

    Attributes:
        demo: the load that was read off.
        paced: at its share of copying.
        unbroken: way |-> without a pause.
        thread: jobs in flight |-> of the engine's thread.
    """

    demo: DemoCopies
    paced: Samples
    unbroken: Mapping[str, Samples]
    thread: Mapping[int, Samples]

    def targets(self) -> list[Target]:
        """Each with its figure."""
        share = self.demo.load.copy_share
        what = f"the model's speed beside copies for {100 * share:.2g} % of the time, as in the demo"
        found = [Target(what, self.paced.median("model"), least=LEAST_MODEL_SPEED)]
        for way in WAYS:
            for side in ("model", "copy") if way != PIECES else ():
                what = f"{side} speed beside {way} over that beside {PIECES}"
                found.append(
                    Target(what, ratio(*(self.unbroken[each].median(side) for each in (way, PIECES))), least=1)
                )
        for in_flight, samples in self.thread.items():
            what = f"submit + landed with {in_flight} in flight, share of an iteration of {RESIDENTS} decodes"
            found.append(Target(what, samples.median("share"), most=MOST_SHARE))
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, round by round."""
        return {
            "demo": self.demo.as_json(),
            "at_the_demos_share": self.paced.as_json(),
            "without_a_pause": [
                {"order": WAYS[way][0], "way": WAYS[way][1], **samples.as_json()}
                for way, samples in self.unbroken.items()
            ],
            "engine_thread": [
                {"in_flight": in_flight, "residents": RESIDENTS, **samples.as_json()}
                for in_flight, samples in self.thread.items()
            ],
            "targets": [target.as_json() for target in self.targets()],
        }


def ratio(figure: float | None, base: float | None) -> float | None:
    """Of two medians; None of a None."""
    return None if figure is None or not base else figure / base


def measure(options: BenchOptions, rounds: int, most_others: float) -> Found:
    """Serve the demo, then measure all sides.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
    """
    demo = serve_demo(options)
    model, layout, load = demo.bed.model, demo.bed.spec.layout, demo.load
    decodes = Decodes(model, layout, load.mean_requests, load.mean_context)
    many = Decodes(model, layout, RESIDENTS, load.mean_context)
    with ExitStack() as stack:
        paced = stack.enter_context(closing(PacedCopies(demo, decodes)))
        paced_samples = measure_in_turn({"paced": paced.round}, rounds, most_others)["paced"]
        unbroken = {
            name: stack.enter_context(closing(UnbrokenCopies(layout, order, way, decodes)))
            for name, (order, way) in WAYS.items()
        }
        ways = measure_in_turn({name: each.round for name, each in unbroken.items()}, rounds, most_others)
        cost = stack.enter_context(closing(SwapCost(layout)))
        thread = measure_in_turn({str(n): partial(thread_share, many, cost, n) for n in IN_FLIGHT}, rounds, most_others)
    return Found(demo, paced_samples, ways, {n: thread[str(n)] for n in IN_FLIGHT})


def thread_share(decodes: Decodes, cost: SwapCost, in_flight: int) -> dict[str, float | None]:
    """What submit and landed take, and what share that is of an iteration."""
    iteration_s = min(decodes.seconds(1) for _ in range(2))
    seconds = statistics.median(cost.seconds(in_flight) for _ in range(ASKED))
    return {"seconds": seconds, "iteration_s": iteration_s, "share": seconds / iteration_s}


def print_report(found: Found, console: Console) -> None:
    """The load, a table of the ratios, and the verdicts."""
    load = found.demo.load
    console.print(
        f"the demo's run fastswitch, no link: {load.jobs} swaps in {load.seconds:.1f} s, {load.iterations} iterations, "
        f"copying for {100 * load.copy_share:.2f} % of the time; about {load.mean_requests} requests of "
        f"{load.mean_context} tokens in an iteration",
        highlight=False,
    )
    table = Table(box=box.MARKDOWN)
    for head in ("beside each other, relative to alone", "model", "copies", "GB/s alone", "quiet rounds"):
        table.add_column(head, justify="right", no_wrap=True)
    rows = {"at the demo's share": found.paced, **found.unbroken}
    for name, samples in rows.items():
        figures = [samples.median(each) if samples is not found.paced else None for each in ("copy", "alone_gbps")]
        cells = ["-" if figure is None else f"{figure:.2f}" for figure in (samples.median("model"), *figures)]
        table.add_row(name, *cells, f"{len(samples.quiet)} of {len(samples.others)}")
    console.print(table)
    print_targets(found.targets(), console)


def parse(arguments: Sequence[str]) -> tuple[BenchOptions, int, float]:
    """The demo's options, rounds, and the share of the cores that others may take.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, rounds=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = vars(parser.parse_args(arguments))
    rounds, others = given.pop("rounds"), given.pop("others")
    check_options(rounds, others)
    command = shlex.join(["python", "benchmarks/beside_the_model.py", *arguments])
    return demo_options(command, link="none", **given), rounds, others


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("beside_the_model", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Measure, write and print."""
    options, rounds, others = parse(arguments)
    check_writable(options.json)
    with one_thread():
        found = measure(options, rounds, others)
        facts = {"schema": 1, "command": options.command, "environment": dict(found.demo.bed.environment())}
    if options.json is not None:
        result = {**facts, "most_others": others, **found.as_json()}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_report(found, output(160))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

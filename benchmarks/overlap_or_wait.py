"""The adaptive rule against rules that always overlap and always wait: simulated, and on the demo's model.

Every rule serves the same conversations with the same arrivals by the run ``fastswitch``; nothing else differs. The two
fixed rules do not pace; ``overlap, paced`` paces as the adaptive one does, and so tells what pacing and what choosing
is worth. On the model, rules take turns, and of each the rounds count in which the machine was quiet.

    python benchmarks/overlap_or_wait.py --seeds 0,1,2 --json out/overlap-or-wait.json

Exit status: 0 done; 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from command import Parser, exit_status, output
from demo_copies import demo_options
from quiet_rounds import add_options, check_options, measure_in_turn
from rich import box
from rich.console import Console
from rich.table import Table
from rule_figures import ADAPTIVE, FIGURES, RULES, figures_of, relative
from tiny_decodes import one_thread

from fastswitch.engine.bench import prepare
from fastswitch.engine.environment import environment
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.usage import UsageError, check_writable

__all__ = ["main"]

SETUPS = "llama8b-a10,qwen32b-a100"
WHERE = ("simulator", "engine", "both")
ENGINE = "the demo's model"
MOST_PROCESSES = 2
SIMULATED = ("conversations", "scale", "rate", "device_tokens")  # options of simulations alone


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for.

    Attributes:
        command: as typed.
        simulations: one a setup and seed.
        engine_seeds: of the demo, each served by every rule.
        engine_conversations: of the demo.
        rounds: quiet ones of a rule on the engine.
        most_others: share of the cores that others may take in one.
        json: where the figures go.
    """

    command: str
    simulations: Sequence[SimulateOptions]
    engine_seeds: Sequence[int]
    engine_conversations: int
    rounds: int
    most_others: float
    json: Path | None


def served(experiment: Experiment, rule: str) -> dict[str, float | None]:
    """What is compared, of one rule."""
    return figures_of(experiment.serve(replace(RUNS["fastswitch"], rule=RULES[rule])).figures)


def simulate(point: tuple[SimulateOptions, str]) -> dict[str, float | None]:
    """One simulation with one rule."""
    options, rule = point
    return served(prepare_simulation(options), rule)


def simulated(simulations: Sequence[SimulateOptions]) -> list[dict[str, Any]]:
    """Every simulation with every rule, two at a time."""
    points = [(options, rule) for options in simulations for rule in RULES]
    with ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1)) as processes:
        found = dict(zip(points, processes.map(simulate, points), strict=True))
    return [
        result(options.setup, options.seed, {rule: found[options, rule] for rule in RULES}) for options in simulations
    ]


def on_the_engine(asked: Asked, seed: int) -> dict[str, Any]:
    """Every rule on the demo's model, in turn."""
    options = demo_options(asked.command, seed=seed, conversations=asked.engine_conversations)
    experiment, bed = prepare(options)
    sides = {rule: partial(served, experiment, rule) for rule in RULES}
    found = measure_in_turn(sides, asked.rounds, asked.most_others)
    medians = {rule: {name: samples.median(name) for name in FIGURES} for rule, samples in found.items()}
    measured = {rule: samples.as_json() for rule, samples in found.items()}
    return {**result(ENGINE, seed, medians), "link": bed.as_json()["link"], "measured": measured}


def result(setup: str, seed: int, by_rule: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """Of one setup and seed."""
    return {"setup": setup, "seed": seed, "figures": by_rule, "relative": relative(by_rule)}


def over_seeds(results: Sequence[Mapping[str, Any]], setup: str, rule: str, name: str) -> float | None:
    """The median, over the seeds, of a relative figure; None if a seed has none."""
    values = [each["relative"][rule][name] for each in results if each["setup"] == setup]
    return None if None in values or not values else statistics.median(values)


def print_report(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table: the adaptive rule's figures, then each other rule's relative to them; a seed after the other."""
    table = Table(box=box.MARKDOWN)
    for head in ("setup", "seed", "rule", *FIGURES):
        table.add_column(head, justify="right", no_wrap=True)
    for each in results:
        place = each["setup"], str(each["seed"])
        table.add_row(*place, ADAPTIVE, *(_cell(each["figures"][ADAPTIVE][name], "{:,.3f}") for name in FIGURES))
        for rule in RULES:
            if rule != ADAPTIVE:
                table.add_row(*place, rule, *(_cell(each["relative"][rule][name], "x {:.3f}") for name in FIGURES))
    for setup in dict.fromkeys(each["setup"] for each in results):
        for rule in RULES:
            if rule != ADAPTIVE:
                medians = [over_seeds(results, setup, rule, name) for name in FIGURES]
                table.add_row(setup, "median", rule, *(_cell(median, "x {:.3f}") for median in medians))
    console.print(table)
    for each in results:
        counts = {rule: len(samples["others"]) for rule, samples in each.get("measured", {}).items()}
        quiet = {rule: samples["quiet_rounds"] for rule, samples in each.get("measured", {}).items()}
        if counts:
            told = ", ".join(f"{rule} {quiet[rule]} of {count}" for rule, count in counts.items())
            console.print(f"{each['setup']}, seed {each['seed']}: quiet rounds of {told}", highlight=False)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def parse(arguments: Sequence[str]) -> Asked:
    """What is asked for; everything that can be refused is refused here.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--where", default="both", choices=WHERE)
    parser.add_argument("--setups", default=SETUPS, help="of the simulator, with commas between them")
    parser.add_argument("--seeds", default="0,1,2", help="with commas between them: a workload each")
    parser.add_argument("--conversations", type=int, default=200, help="of the simulator; so are the next three")
    parser.add_argument("--scale", type=float, help="factor on token lengths")
    parser.add_argument("--rate", type=float, help="conversations a second")
    parser.add_argument("--device-tokens", type=int, help="of the pool; the setup's")
    parser.add_argument("--engine-conversations", type=int, default=32, help="of the demo")
    add_options(parser, rounds=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = vars(parser.parse_args(arguments))
    try:
        seeds = [int(seed) for seed in given["seeds"].split(",")]
    except ValueError:
        raise UsageError("--seeds must be whole numbers with commas between them") from None
    check_options(given["rounds"], given["others"])
    command = shlex.join(["python", "benchmarks/overlap_or_wait.py", *arguments])
    same = {name: given[name] for name in SIMULATED}
    simulations = [
        SimulateOptions(command=command, setup=setup, seed=seed, **same)
        for setup in given["setups"].split(",")
        for seed in seeds
    ]
    for options in simulations if given["where"] != "engine" else ():
        prepare_simulation(options)
    demo_options(command, conversations=given["engine_conversations"])
    return Asked(
        command=command,
        simulations=simulations if given["where"] != "engine" else (),
        engine_seeds=seeds if given["where"] != "simulator" else (),
        engine_conversations=given["engine_conversations"],
        rounds=given["rounds"],
        most_others=given["others"],
        json=given["json"],
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("overlap_or_wait", lambda: run_command(arguments))


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, serve, write and print."""
    asked = parse(arguments)
    check_writable(asked.json)
    with one_thread():
        facts = {"schema": 1, "command": asked.command, "environment": environment(torch.device("cpu"))}
        results = simulated(asked.simulations) if asked.simulations else []
        results += [on_the_engine(asked, seed) for seed in asked.engine_seeds]
    if asked.json is not None:
        found = {**facts, "most_others": asked.most_others, "results": results}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print_report(results, output(160))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

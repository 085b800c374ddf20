"""How far apart two clients get who both want more than their share, under each policy; simulated.

    python benchmarks/fair_shares.py --json out/fair-shares.json --plot out/fair-shares.png

One client sends long requests, the other four times as many short ones, together about twice what the device can do.
The gap is VTC's: the largest difference of service (prompt tokens, and twice the generated ones) over any time in which
both wait. With the preemptive form, fewer tokens of horizon hold them closer together and switch more; so it is also
served where a switch is expensive: by recomputing, and block by block.

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import functools
import json
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command import Parser, exit_status, output
from rich import box
from rich.table import Table

from fastswitch.engine.environment import environment
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.usage import UsageError, check_writable

__all__ = ["main"]

SETUP, DEVICE_TOKENS, HOST_TOKENS = "llama8b-a10", 6_000, 48_000
HORIZONS = (1, 4, 16, 64, 256)
DEFAULT = 16


@dataclass(frozen=True, slots=True)
class Client:
    """Requests a second, and what they ask for, at least and at most."""

    rate: float
    prompt: tuple[int, int]
    answer: tuple[int, int]


CLIENTS = {"long": Client(1.0, (100, 400), (300, 700)), "short": Client(4.0, (20, 100), (100, 300))}


@dataclass(frozen=True, slots=True)
class Row:
    """One simulation."""

    run: str
    policy: str
    horizon: int | None = None


def rows() -> list[Row]:
    """Policies on our run, horizons of the preemptive one, and that where switches are expensive."""
    ours = [Row("fastswitch", policy) for policy in ("fcfs", "vtc")]
    ours += [Row("fastswitch", "vtc-preemptive", horizon) for horizon in HORIZONS]
    others = ("vllm_0_3", "recompute", "free_switch")
    forms = (("vtc",), ("vtc-preemptive", DEFAULT), ("vtc-preemptive", 1))
    return ours + [Row(run, *form) for run in others for form in forms]


def requests(seconds: float, seed: int) -> Iterator[tuple[float, str, int, int]]:
    """(arrival, client, prompt, answer), in order of arrival."""
    draws = random.Random(seed)
    found = []
    for name, client in CLIENTS.items():
        when = 0.0
        while when < seconds:
            found.append((when, name, draws.randint(*client.prompt), draws.randint(*client.answer)))
            when += draws.expovariate(client.rate)
    yield from sorted(found)


def write_workload(path: Path, seconds: float, seed: int) -> None:
    """In the format of the arena's clients."""
    lines = ["req_id,client_id,arrival_s,input_tokens,output_tokens"]
    for i, (when, name, prompt, answer) in enumerate(requests(seconds, seed)):
        lines.append(f"{i},{name},{when:.6f},{prompt},{answer}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def serve(row: Row, options: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one simulation."""
    asked = SimulateOptions(**options, policy=row.policy, horizon=row.horizon)
    figures = prepare_simulation(asked).serve(SIMULATED_RUNS[row.run]).figures
    switches, clients = figures["switches"], figures["clients"]
    return {
        "run": row.run,
        "policy": row.policy,
        "horizon": row.horizon,
        "max_gap": clients["max_gap"],
        "contended": clients["contended"],
        "jain_backlogged": clients["jain_backlogged"],
        "tokens_per_s": figures["tokens_per_s"],
        "ttft_p95_s": {each["client_id"]: each["ttft_s"]["p95"] for each in clients["by_client"]},
        "switches": switches["swap_outs"] + switches["clean_evictions"] + switches["drops"],
        "gigabytes": (switches["bytes_out"] + switches["bytes_in"]) / 1e9,
        "recomputed_tokens": switches["recomputed_tokens"],
    }


def beside_vtc(found: Sequence[dict[str, Any]]) -> None:
    """Enter gap and throughput over those of the published form on the same run."""
    published = {each["run"]: each for each in found if each["policy"] == "vtc"}
    for each in found:
        base = published[each["run"]]
        each["gap_over_vtc"] = each["max_gap"] / base["max_gap"]
        each["tokens_per_s_over_vtc"] = each["tokens_per_s"] / base["tokens_per_s"]


def print_table(found: Sequence[Mapping[str, Any]]) -> None:
    """In Markdown."""
    table = Table(title=None, box=box.MARKDOWN)
    for head in ("run", "policy", "horizon", "gap", "over vtc", "tok/s", "over vtc", "switches", "GB", "recomputed"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in found:
        table.add_row(
            each["run"],
            each["policy"],
            str(each["horizon"] or "-"),
            f"{each['max_gap']:.0f}",
            f"{each['gap_over_vtc']:.3f}",
            f"{each['tokens_per_s']:.1f}",
            f"{each['tokens_per_s_over_vtc']:.3f}",
            str(each["switches"]),
            f"{each['gigabytes']:.1f}",
            str(each["recomputed_tokens"]),
        )
    output(160).print(table)


def plot(found: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Gap against throughput, a point a row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for run in dict.fromkeys(each["run"] for each in found):
        here = [each for each in found if each["run"] == run]
        axis.plot(
            [each["tokens_per_s"] for each in here],
            [each["max_gap"] for each in here],
            "o-" if run == "fastswitch" else "s:",
            color="k" if run == "fastswitch" else None,
            label=run,
        )
        for each in here:
            name = each["policy"] if each["horizon"] is None else str(each["horizon"])
            axis.annotate(name, (each["tokens_per_s"], each["max_gap"]), (4, 4), textcoords="offset points", fontsize=7)
    axis.set(xlabel="tokens/s", ylabel="largest service gap, weighted tokens", yscale="log")
    axis.set_title(f"{title}\n(simulated; the numbers are horizons of vtc-preemptive)", fontsize=8)
    axis.grid(visible=True, alpha=0.25)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=100, format="png")
    plt.close(figure)


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print.

    Raises:
        UsageError: in one line.
    """
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="in which requests arrive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args(arguments)
    if not 10 <= given.seconds <= 10_000:
        raise UsageError(f"--seconds must be a number of at least 10 and at most 10000, got {given.seconds:g}")
    for path in (given.json, given.plot):
        check_writable(path)
    command = shlex.join(["python", "benchmarks/fair_shares.py", *arguments])
    pools = {"device_tokens": DEVICE_TOKENS, "host_tokens": HOST_TOKENS}
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2) as processes:
        workload = Path(folder) / "two_clients.csv"
        write_workload(workload, given.seconds, given.seed)
        options = {"command": command, "setup": SETUP, "clients": str(workload), "seed": given.seed, **pools}
        found = list(processes.map(functools.partial(serve, options=options), rows()))
    beside_vtc(found)
    if given.json is not None:
        facts = {"schema": 1, "command": command, "environment": environment(torch.device("cpu")), "simulated": True}
        shared = {"setup": SETUP, "seconds": given.seconds, "seed": given.seed, **pools, "rows": found}
        given.json.write_text(json.dumps(facts | shared, indent=1) + "\n", encoding="utf-8")
    if given.plot is not None:
        plot(found, command, given.plot)
    print_table(found)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("fair_shares", lambda: run_command(arguments))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

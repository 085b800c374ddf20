"""A bench's figures for a person: the table, and what to know when reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastswitch.engine.client_report import print_clients
from fastswitch.engine.metrics import PERCENTILES
from fastswitch.engine.policy import Policy
from fastswitch.engine.switch_counts import OFTEN
from fastswitch.engine.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from fastswitch.engine.experiment import Experiment

__all__ = ["LATENCIES", "print_report"]

LATENCIES = (("ttft_s", "TTFT"), ("tbt_s", "TBT"), ("tbt_resident_s", "resident TBT"))

MOST_CALL_US = 3.0  # of one memcpy, issued from C: what costs more is not how an engine does it

LEGEND = (
    "load: seconds of work that arrive in a second, at decodes of eight. TTFT: from a turn's arrival to its first "
    "token. TBT: between tokens of a turn; resident: only while it stayed on the device. out, in: swaps; clean: "
    "evictions without a copy; drops: victims recomputed; reused: tokens that an eviction did not copy again; copies: "
    "contiguous pieces moved; blocks/run: mean length of a run of blocks"
)


def print_report(experiment: Experiment, console: Console, notes: Sequence[str] = ()) -> None:
    """The head, the tables, what to know, and ``notes``; 80 columns suffice."""
    result = experiment.as_json()
    runs = result["runs"]
    console.print(_head(experiment), highlight=False)
    for metric, label in LATENCIES:
        _print_latency(console, runs, metric, f"{label}, ms")
    _print_switches(console, runs)
    _print_copies(console, runs)
    console.print(LEGEND, highlight=False)
    print_clients(console, runs)
    _print_speedup(console, result["speedup"])
    for line in (*_caveats(result), *_verdicts(runs, result["policy"]), *notes):
        console.print(line, highlight=False)


def _head(experiment: Experiment) -> str:
    workload, spec = experiment.workload, experiment.bed.spec
    load = "" if experiment.load is None else f", load {experiment.load:.2g}"
    return (
        f"{experiment.bed.head()} | "
        f"{workload.name}: {len(workload)} conversations, {workload.num_turns} turns, {workload.input_tokens} new and "
        f"{workload.output_tokens} generated tokens{load} | "
        f"device {spec.device_blocks}, host {spec.host_blocks} blocks of {spec.layout.block_size} | "
        f"{_policy(spec.policy)}"
    )


def _policy(policy: Policy) -> str:
    """What was decided by, but for what stands at its default."""
    said = policy.as_json()
    names = [f"{said['policy']}, {said['packer']} {said['token_budget']}, {said['evictor']}"]
    if "priority" in said:
        names.append(f"levels {said['priority']} at {said['frequency']:g}")
    names += [f"{name.replace('_', ' ')} {said[name]}" for name in ("aging", "horizon") if name in said]
    names += [f"{name.replace('_', ' ')} {said[name]}" for name in ("min_levels", "min_stay") if said[name]]
    return ", ".join(names + ([] if said["victims"] == "lowest-rank" else [f"victims {said['victims']}"]))


def _print_latency(console: Console, runs: Sequence[Mapping[str, Any]], metric: str, title: str) -> None:
    """The percentiles that every run has enough samples for, the maximum and the number of samples."""
    known = [name for name in PERCENTILES if all(run[metric][name] is not None for run in runs)]
    rows = []
    for run in runs:
        tail = run[metric]
        cells = [f"{tail[name] * 1e3:.1f}" if tail[name] is not None else "-" for name in (*known, "max")]
        rows.append([run["name"], *cells, str(tail["n"]), f"{run['tokens_per_s']:.0f}"])
    print_table(console, title, [*known, "max", "n", "tokens/s"], rows)


def _print_switches(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    names = ("swap_outs", "swap_ins", "clean_evictions", "drops", "reused_tokens", "recomputed_tokens")
    rows = [[run["name"], *(str(run["switches"][name]) for name in names)] for run in runs]
    print_table(console, "switches", ["out", "in", "clean", "drops", "reused tokens", "recomputed tokens"], rows)


def _print_copies(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for run in runs:
        s = run["switches"]
        moved = [f"{s['bytes_out'] / 1e6:.1f}", f"{s['bytes_in'] / 1e6:.1f}", str(s["copies"])]
        length = "-" if s["blocks_per_copy"] is None else f"{s['blocks_per_copy']:.2f}"
        rows.append([run["name"], *moved, length, f"{s['stall_s'] * 1e3:.0f}"])
    print_table(console, "copies", ["MB out", "MB in", "copies", "blocks/run", "stall ms"], rows)


def _print_speedup(console: Console, speedups: Mapping[str, Mapping[str, float | None]]) -> None:
    """Ours against every other run, also where it loses."""
    over = {pair.split("/", 1)[1]: row for pair, row in speedups.items() if pair.startswith("fastswitch/")}
    known = [name for name in next(iter(over.values()), {}) if all(row[name] is not None for row in over.values())]
    rows = [[base, *(f"{row[name]:.2f}x" for name in known)] for base, row in over.items()]
    if rows:
        title = "fastswitch over each other run (below 1 it loses; one sample of each)"
        print_table(console, title, known, rows)


def _raw_copy_line(raw: Mapping[str, float]) -> str:
    return "raw copies of a 500-token swap-out on this machine, nothing emulated: " + ", ".join(
        f"{name} {ms:.3f} ms" for name, ms in raw.items()
    )


def _caveats(result: Mapping[str, Any]) -> list[str]:
    lines = [_raw_copy_line(result["raw_copy_ms"])] if "raw_copy_ms" in result else []
    lines += _budget(result["policy"])
    lines += [f"run {name} left out: {reason}" for name, reason in result["left_out"].items()]
    call_us = result.get("per_block_call_us")
    if call_us is not None:
        void = (
            ""
            if call_us <= MOST_CALL_US
            else f", above {MOST_CALL_US:g}: runs that copy block by block are no baseline"
        )
        lines.append(f"a memcpy of per_block is issued in {call_us:.2f} us{void}")
    return lines


def _budget(policy: Mapping[str, Any]) -> list[str]:
    """What budget a target of the time between tokens came to."""
    source = policy.get("budget_from")
    if source is None:
        return []
    batches = source["batches"]
    line = (
        f"token budget {policy['token_budget']}: its iterations take up to {source['iteration_s'] * 1e3:.1f} ms "
        f"({source['timed_by']}, {batches['num_decodes']} decodes at {batches['context']} tokens at most), the target "
        f"is {source['tbt_target_s'] * 1e3:g} ms"
    )
    return [line]


def _verdicts(runs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any]) -> list[str]:
    lines = []
    if not any(run["switches"][name] for run in runs for name in ("swap_outs", "clean_evictions", "drops")):
        lines.append("nothing was switched: the pool held everything that was asked of it (lower --device-tokens)")
    failed = sum(run["switches"]["failed"] for run in runs)
    if failed:
        lines.append(f"{failed} copies failed; whoever needed one was recomputed")
    hung = sum(run["switches"]["hung"] for run in runs)
    if hung:
        lines.append(f"{hung} copies hung; their requests were recomputed, their blocks kept until they came back")
    return lines + [line for run in runs if (line := _thrash(run, policy)) is not None]


def _thrash(run: Mapping[str, Any], policy: Mapping[str, Any]) -> str | None:
    """Who moved more than it computed, and the way out."""
    thrash = run["switches"]["thrash"]
    often = thrash[f"conversations_{OFTEN}_in_a_row"]
    if not often:
        return None
    lower = "lower --frequency, " if "frequency" in policy else ""
    named = ", ".join(str(conversation) for conversation in often[:8]) + (", ..." if len(often) > 8 else "")
    return (
        f"run {run['name']} thrashed: conversations {named} were pushed out up to {thrash['most_in_a_row']} times in a "
        f"row after one token each ({lower}raise --min-stay or --device-tokens)"
    )

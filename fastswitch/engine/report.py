"""A bench's figures for a person: the table, and what to know when reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastswitch.engine.executor import BatchEntry
from fastswitch.engine.metrics import PERCENTILES
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.runs import RUNS
from fastswitch.memory.pool import KVPool

if TYPE_CHECKING:
    from rich.console import Console

    from fastswitch.engine.experiment import Experiment

__all__ = ["first_difference", "highest_percentile", "print_report"]

NEAR_TIE = 1e-4  # of the logits' spread: below it two correct ways of computing may pick different tokens
LATENCIES = (("ttft_s", "TTFT"), ("tbt_s", "TBT"), ("tbt_resident_s", "resid. TBT"))


def print_report(experiment: Experiment, console: Console) -> None:
    """The head, the table, the speed-ups, and whether all runs gave the same tokens."""
    result = experiment.as_json()
    console.print(_head(experiment), highlight=False)
    console.print(_latency_table(result["runs"]))
    console.print(_switch_table(result["runs"]))
    for line in _speedup_lines(result["speedup"]):
        console.print(line, highlight=False)
    console.print(_raw_copy_line(result["raw_copy_ms"]), highlight=False)
    for line in _verdicts(experiment, result["runs"]):
        console.print(line, highlight=False)


def highest_percentile(tails: Sequence[Mapping[str, Any]]) -> str | None:
    """The highest percentile that every one of the tails has enough samples for."""
    known = [name for name in PERCENTILES if all(tail[name] is not None for tail in tails)]
    return known[-1] if known else None


def _head(experiment: Experiment) -> str:
    workload, spec, link = experiment.workload, experiment.spec, experiment.spec.link
    linked = (
        f"link emulated: {link.call_us:g} us a call, {link.gbps:.3g} GB/s"
        if link
        else "link real"
        if spec.model.model.device.type == "cuda"
        else "no link: copies within one memory"
    )
    return (
        f"{linked} | model {spec.model.name} {spec.layout.dtype}, {spec.layout.token_bytes} B of KV a token | "
        f"{workload.name}: {len(workload)} conversations, {workload.num_turns} turns, {workload.input_tokens} new and "
        f"{workload.output_tokens} generated tokens | device {spec.device_blocks}, host {spec.host_blocks} blocks of "
        f"{spec.layout.block_size}"
    )


def _latency_table(runs: Sequence[Mapping[str, Any]]) -> Any:
    table = _table("latency in ms: median, highest percentile that the samples allow, maximum, number of samples")
    columns = []
    for metric, label in LATENCIES:
        top = highest_percentile([run[metric] for run in runs])
        names = [name for name in ("p50", top) if name is not None]
        for name in dict.fromkeys([*names, "max"]):
            columns.append((metric, name))
            table.add_column(f"{label} {name}", justify="right")
        columns.append((metric, "n"))
        table.add_column("n", justify="right")
    table.add_column("tokens/s", justify="right")
    for run in runs:
        cells = [_cell(run[metric][name], name) for metric, name in columns]
        table.add_row(run["name"], *cells, f"{run['tokens_per_s']:.0f}")
    return table


def _switch_table(runs: Sequence[Mapping[str, Any]]) -> Any:
    table = _table(
        "switches: swaps out and in, evictions that needed no copy, victims dropped, copies that failed; tokens"
    )
    heads = ("out", "in", "clean", "drops", "failed", "MB out", "MB in", "copies", "blocks/ copy", "stall ms")
    for head in (*heads, "reused tok", "recomp. tok"):
        table.add_column(head, justify="right")
    for run in runs:
        s = run["switches"]
        counts = [str(s[name]) for name in ("swap_outs", "swap_ins", "clean_evictions", "drops", "failed")]
        table.add_row(
            run["name"],
            *counts,
            f"{s['bytes_out'] / 1e6:.1f}",
            f"{s['bytes_in'] / 1e6:.1f}",
            str(s["copies"]),
            "-" if s["blocks_per_copy"] is None else f"{s['blocks_per_copy']:.2f}",
            f"{s['stall_s'] * 1e3:.0f}",
            str(s["reused_tokens"]),
            str(s["recomputed_tokens"]),
        )
    return table


def _table(title: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", no_wrap=True, min_width=max(map(len, RUNS)))
    return table


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return str(value) if name == "n" else f"{value * 1e3:.1f}"


def _speedup_lines(speedups: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    lines = []
    for pair, figures in speedups.items():
        ours, base = pair.split("/", 1)
        known = [f"{name} {value:.2f}x" for name, value in figures.items() if value is not None]
        if ours == "fastswitch" and base in ("recompute", "vllm_0_3", "paper"):
            lines.append(f"fastswitch over {base}: " + ", ".join(known))
    return lines


def _raw_copy_line(raw: Mapping[str, float]) -> str:
    return "raw copies of a 500-token swap-out on this machine, nothing emulated: " + ", ".join(
        f"{name} {ms:.3f} ms" for name, ms in raw.items()
    )


def _verdicts(experiment: Experiment, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    if not any(run["switches"][name] for run in runs for name in ("swap_outs", "clean_evictions", "drops")):
        lines.append("nothing was switched: the pool held everything that was asked of it (lower --device-tokens)")
    failed = sum(run["switches"]["failed"] for run in runs)
    if failed:
        lines.append(f"{failed} copies failed; their requests were recomputed")
    if experiment.same_tokens():
        lines.append(
            f"all {len(runs)} runs gave the same tokens: sha256 {runs[0]['tokens_sha256'][:16]}" if runs else ""
        )
    else:
        lines += [difference for run in runs[1:] if (difference := first_difference(experiment, run["name"]))]
    return lines


def first_difference(experiment: Experiment, name: str) -> str | None:
    """Where a run's tokens first leave those of the first run, and how near a tie it was; None if they do not."""
    base_name, base = next(iter(experiment.turn_tokens.items()))
    other = experiment.turn_tokens[name]
    for key in sorted(base):
        for position, (ours, theirs) in enumerate(zip(base[key], other[key], strict=True)):
            if ours != theirs:
                gap, spread = _logit_gap(experiment, base, key, position)
                verdict = "a near tie" if gap < NEAR_TIE * spread else "NOT a near tie"
                return (
                    f"{name} differs from {base_name} at conversation {key[0]}, turn {key[1]}, token {position}: "
                    f"{theirs} for {ours}; top-2 logit gap {gap:.3g} of a spread of {spread:.3g}: {verdict}"
                )
    return None


def _logit_gap(
    experiment: Experiment, tokens: Mapping[tuple[int, int], list[int]], key: tuple[int, int], position: int
) -> tuple[float, float]:
    """Top-2 gap and spread of the logits that chose a token, computed anew from the whole context at once."""
    conversation, last_turn = key
    context: list[int] = []
    for turn in range(last_turn + 1):
        context += experiment.workload.prompt_tokens(conversation, turn, experiment.model.vocab_size)
        context += tokens[conversation, turn] if turn < last_turn else tokens[key][:position]
    layout = experiment.spec.layout
    pool = KVPool(layout, layout.blocks_for(len(context)), experiment.model.model.device)
    table = np.arange(pool.num_blocks, dtype=np.int32)
    logits = ModelExecutor(experiment.model.model, pool).logits([BatchEntry(0, context, 0, table, samples=True)])[0]
    top = logits.double().topk(2).values
    return float(top[0] - top[1]), float(logits.double().max() - logits.double().min())

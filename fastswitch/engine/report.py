"""A bench's figures for a person: the table, and what to know when reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastswitch.engine.metrics import PERCENTILES
from fastswitch.engine.token_check import describe_differences

if TYPE_CHECKING:
    from rich.console import Console

    from fastswitch.engine.experiment import Experiment

__all__ = ["LATENCIES", "print_report"]

LATENCIES = (("ttft_s", "TTFT"), ("tbt_s", "TBT"), ("tbt_resident_s", "resident TBT"))

LEGEND = (
    "TTFT: from a turn's arrival to its first token. TBT: between tokens of a turn; resident: only while it stayed on "
    "the device. out, in: swaps; clean: evictions that needed no copy; drops: victims recomputed; reused: tokens that an "
    "eviction did not copy again; copies: contiguous pieces moved; blocks/run: mean length of a run of blocks"
)


def print_report(experiment: Experiment, console: Console) -> None:
    """The head, the tables, and whether all runs gave the same tokens; 80 columns suffice."""
    result = experiment.as_json()
    runs = result["runs"]
    console.print(_head(experiment), highlight=False)
    for metric, label in LATENCIES:
        console.print(_latency_table(runs, metric, f"{label}, ms"))
    console.print(_switch_table(runs))
    console.print(_copy_table(runs))
    console.print(LEGEND, highlight=False)
    if any(pair.startswith("fastswitch/") for pair in result["speedup"]):
        console.print(_speedup_table(result["speedup"]))
    console.print(_raw_copy_line(result["raw_copy_ms"]), highlight=False)
    for line in _verdicts(experiment, runs):
        console.print(line, highlight=False)


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


def _latency_table(runs: Sequence[Mapping[str, Any]], metric: str, title: str) -> Any:
    """The percentiles that every run has enough samples for, the maximum and the number of samples."""
    known = [name for name in PERCENTILES if all(run[metric][name] is not None for run in runs)]
    table = _table(title, [*known, "max", "n", "tokens/s"])
    for run in runs:
        tail = run[metric]
        cells = [f"{tail[name] * 1e3:.1f}" if tail[name] is not None else "-" for name in (*known, "max")]
        table.add_row(run["name"], *cells, str(tail["n"]), f"{run['tokens_per_s']:.0f}")
    return table


def _switch_table(runs: Sequence[Mapping[str, Any]]) -> Any:
    table = _table("switches", ["out", "in", "clean", "drops", "reused tokens", "recomputed tokens"])
    names = ("swap_outs", "swap_ins", "clean_evictions", "drops", "reused_tokens", "recomputed_tokens")
    for run in runs:
        table.add_row(run["name"], *(str(run["switches"][name]) for name in names))
    return table


def _copy_table(runs: Sequence[Mapping[str, Any]]) -> Any:
    table = _table("copies", ["MB out", "MB in", "copies", "blocks/run", "stall ms"])
    for run in runs:
        s = run["switches"]
        table.add_row(
            run["name"],
            f"{s['bytes_out'] / 1e6:.1f}",
            f"{s['bytes_in'] / 1e6:.1f}",
            str(s["copies"]),
            "-" if s["blocks_per_copy"] is None else f"{s['blocks_per_copy']:.2f}",
            f"{s['stall_s'] * 1e3:.0f}",
        )
    return table


def _speedup_table(speedups: Mapping[str, Mapping[str, float | None]]) -> Any:
    """Ours against every other run, also where it loses."""
    rows = {pair.split("/", 1)[1]: row for pair, row in speedups.items() if pair.startswith("fastswitch/")}
    known = [name for name in next(iter(rows.values())) if all(row[name] is not None for row in rows.values())]
    table = _table("fastswitch over each other run (below 1 it loses; one sample of each)", known)
    for base, row in rows.items():
        table.add_row(base, *(f"{row[name]:.2f}x" for name in known))
    return table


def _table(title: str, heads: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    return table


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
        lines.append(f"all {len(runs)} runs gave the same tokens: sha256 {runs[0]['tokens_sha256'][:16]}")
    return lines + describe_differences(experiment)

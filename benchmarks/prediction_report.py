"""What ``predict_engine`` prints: the preset, the figures beside each other, the errors in one line a kind."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["print_report"]


def print_report(result: Mapping[str, Any], console: Console) -> None:
    """Head, calibration, one table, summary."""
    for line in (*_head(result), *_calibration(result["calibration"])):
        console.print(line, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("run", "figure", "measured", "from", "to", "predicted", "from", "to", "error", "spread", ""):
        table.add_column(title, justify="left" if title in ("run", "figure", "") else "right", no_wrap=True)
    for run in result["runs"]:
        for position, each in enumerate(run["figures"]):
            last = position + 1 == len(run["figures"])
            table.add_row("" if position else run["name"], *_cells(each), end_section=last)
    console.print(table)
    console.print(
        "error: predicted over measured, each time by itself, in the median; spread: half the way from the smallest to "
        "the largest\nmeasured, over the median; =: the predicted median is between them",
        highlight=False,
    )
    for kind, each in result["summary"].items():
        console.print(
            f"{kind}: error {each['median_error']:.1%} in the median, {each['worst_error']:.1%} at worst "
            f"({each['worst']}); {each['within_spread']} of {each['figures']} within the spread",
            highlight=False,
        )


def _head(result: Mapping[str, Any]) -> Iterator[str]:
    workload, link, model = result["workload"], result["link"], result["model"]
    threads = result["environment"]["torch_threads"]
    yield (
        f"link emulated: {link['call_us']:g} us a call, {link['gbps']:.3g} GB/s | model {model['name']} "
        f"{model['dtype']}, torch threads {threads} | {workload['name']}: {workload['conversations']} conversations, "
        f"{workload['turns']} turns, {workload['input_tokens']} new and {workload['output_tokens']} generated tokens"
    )


def _calibration(found: Mapping[str, Any]) -> Iterator[str]:
    preset, work = found["roofline"], found["copy_work"]
    flops = "-" if preset["flops"] is None else f"{preset['flops'] / 1e9:.3g} GFLOP/s"
    reads = "-" if preset["bytes_per_s"] is None else f"{preset['bytes_per_s'] / 1e9:.3g} GB/s"
    yield (
        f"preset: {flops} + {reads} + {preset['iteration_s'] * 1e3:.3g} ms an iteration, "
        f"{preset['request_s'] * 1e3:.3g} a request, {preset['chunk_s'] * 1e3:.3g} a chunk; off by "
        f"{found['median_error']:.1%} in the median, {found['max_error']:.1%} at most, over {len(found['points'])} "
        f"batches, {found['passes']} passes"
    )
    yield "noise of an iteration, factors of its median: " + ", ".join(
        f"{name.upper()} {factor:.2f}" for name, factor in found["noise"].items()
    )
    yield (
        f"a copy job besides its link: {work['job_s'] * 1e3:.3g} ms, {work['copy_s'] * 1e6:.3g} us a copy, "
        f"{work['byte_s'] * 1e9:.3g} ms a MB; the step loop: "
        + ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in found["loop_s"].items())
    )


def _cells(each: Mapping[str, Any]) -> Iterator[str]:
    scale, digits = _unit(each["figure"])
    yield each["figure"] if scale == 1 else each["figure"].replace("_s", ", ms", 1)
    for side in ("measured", "predicted"):
        values = [value * scale for value in each[side]]
        for value in (statistics.median(values), min(values), max(values)):
            yield f"{value:.{digits}f}"
    yield "-" if each["error"] is None else f"{each['error']:+.1%}"
    yield f"{each['spread']:.1%}"
    yield "=" if each["within_spread"] else ""


def _unit(figure: str) -> tuple[float, int]:
    """What it is multiplied with, and the digits that it is shown with."""
    if "_s." in figure or figure == "stall_s":
        return 1e3, 1
    return 1.0, 1 if figure in ("megabytes", "tokens_per_s") else 0

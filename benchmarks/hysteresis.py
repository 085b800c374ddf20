"""What a threshold of advantage saves and what it costs, for both choices of victims; simulated.

    python benchmarks/hysteresis.py --json out/hysteresis.json --plot out/hysteresis.png

Two thresholds: levels by which one that pushes another out must be better, and tokens that a request generates before
it may be pushed out. Two places: more work than the device can do, and a host that is too small besides, where victims
are dropped and requests thrash. Percentiles are of all seeds together, counts are sums. Each row is also given over the
first of its place: no threshold, the lowest-ranked victim.

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from command import exit_status, output
from pooled import Point, run_sweep
from rich import box
from rich.table import Table

from fastswitch.engine.options import SimulateOptions

__all__ = ["main"]

CHOICES = ("lowest-rank", "least-bytes")
# threshold |-> its values
THRESHOLDS: dict[str, tuple[int, ...]] = {"min_levels": (0, 1, 2, 3), "min_stay": (10, 50, 200)}
PLACES: dict[str, dict[str, Any]] = {
    "overload": {"setup": "llama8b-a10", "rate": 1.0, "device_tokens": 16_000},
    "small host": {"setup": "llama8b-a10", "rate": 1.0, "device_tokens": 16_000, "host_tokens": 32_000},
}
# figure |-> of pooled figures
FIGURES = {
    "gigabytes": lambda each: (each["bytes_out"] + each["bytes_in"]) / 1e9,
    "switches": lambda each: each["swap_outs"] + each["clean_evictions"] + each["drops"],
    "recomputed": lambda each: each["recomputed_tokens"],
    "ttft_p50_s": lambda each: each["ttft_p50_s"],
    "ttft_p95_s": lambda each: each["ttft_p95_s"],
    "ttft_p99_s": lambda each: each["ttft_p99_s"],
    "tokens_per_s": lambda each: each["tokens_per_s"],
}
PLOTTED = ("gigabytes", "switches", "ttft_p95_s", "ttft_p99_s", "tokens_per_s")


def points(base: Mapping[str, Any], places: Sequence[str], seeds: Sequence[int]) -> list[Point]:
    """Everything to simulate."""
    return [
        Point((place, threshold, value, choice), SimulateOptions(**base, **PLACES[place], seed=seed, **asked))
        for place in places
        for threshold, values in THRESHOLDS.items()
        for value in values
        for choice in CHOICES
        for asked in [{threshold: value, "victims": choice}]
        for seed in seeds
    ]


def rows_of(results: Mapping[Hashable, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a place, threshold, value and choice."""
    rows: list[dict[str, Any]] = []
    for place, threshold, value, choice in results:  # type: ignore[misc]
        figures = {name: of(results[place, threshold, value, choice]) for name, of in FIGURES.items()}
        first = next((row["figures"] for row in rows if row["place"] == place), figures)
        over = {name: each / first[name] if each and first[name] else None for name, each in figures.items()}
        rows.append(
            {
                "place": place,
                "threshold": threshold,
                "value": value,
                "victims": choice,
                "figures": figures,
                "over_the_first": over,
            }
        )
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """In Markdown."""
    table = Table(title=None, box=box.MARKDOWN)
    for head in (
        "where",
        "threshold",
        "victims",
        "GB moved",
        "switches",
        "recomputed",
        "TTFT P50",
        "P95",
        "P99",
        "tok/s",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        figures = row["figures"]
        table.add_row(
            row["place"],
            f"{row['threshold']} {row['value']}",
            row["victims"],
            f"{figures['gigabytes']:.0f}",
            f"{figures['switches']}",
            f"{figures['recomputed']}",
            *(
                "-" if figures[f"ttft_{p}_s"] is None else f"{figures[f'ttft_{p}_s']:.2f}"
                for p in ("p50", "p95", "p99")
            ),
            f"{figures['tokens_per_s']:.1f}",
        )
    output(200).print(table)


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """A row of panels a place and threshold, a panel a figure over the first row's, a line a choice of victims."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    groups = list(dict.fromkeys((row["place"], row["threshold"]) for row in rows))
    size = (3.4 * len(PLOTTED), 2.6 * len(groups))
    figure, axes = plt.subplots(len(groups), len(PLOTTED), figsize=size, layout="constrained", squeeze=False)
    for line, (place, threshold) in zip(axes, groups, strict=True):
        for axis, name in zip(line, PLOTTED, strict=True):
            for choice, style in zip(CHOICES, ("--", "-"), strict=True):
                key = (place, threshold, choice)
                here = [row for row in rows if (row["place"], row["threshold"], row["victims"]) == key]
                drawn = [(row["value"], row["over_the_first"][name]) for row in here]
                axis.plot(
                    *zip(*drawn, strict=True), style, label=choice, marker=".", color="C0" if style == "--" else "k"
                )
            axis.set(title=f"{place}: {name}", xlabel=threshold, ylim=(0, None))
            axis.grid(visible=True, alpha=0.25)
    axes[0][0].set(ylabel="over no threshold, lowest-rank")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=90, format="png")
    plt.close(figure)


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print.

    Raises:
        UsageError: in one line.
    """
    about = (__doc__ or "").partition("\n")[0]
    rows = run_sweep("hysteresis", arguments, about, PLACES, points, rows_of, plot)
    print_table(rows)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("hysteresis", lambda: run_command(arguments))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

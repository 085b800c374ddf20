"""Is the cheapest switch never much worse than the better of swapping and recomputing? Simulated, over link speeds.

    python benchmarks/cheapest_switch.py --json out/cheapest-switch.json --plot out/cheapest-switch.png

Three places: a fast device with little to do and many short returns, where a slow link loses; a device with more work
than it can do, where recomputing loses whatever the link; and one whose host is too small. Each seed's conversations
are served by each evictor; percentiles are of all seeds together. ``Recompute`` uses no link, so it is served once.

Exit status: 0 done, 2 the caller's mistake, in one line; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from command import exit_status, output
from pooled import Point, run_sweep
from rich import box
from rich.table import Table

from fastswitch.engine.options import SimulateOptions

__all__ = ["main"]

SWAP, AGAIN, CHEAPEST = "swap-out", "recompute", "cheapest"
GBPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
MOST = 1.05  # of the better one's P95 TTFT
# where |-> what makes it so
PLACES: dict[str, dict[str, Any]] = {
    "fast device": {"setup": "llama8b-h100", "rate": 3.0, "device_tokens": 40_000, "host_tokens": 400_000},
    "overload": {"setup": "llama8b-a10", "rate": 1.0, "device_tokens": 16_000},
    "small host": {"setup": "llama8b-a10", "rate": 0.3, "device_tokens": 16_000, "host_tokens": 32_000},
}

Results = dict[tuple[str, str, float | None], dict[str, Any]]


def points(base: Mapping[str, Any], places: Sequence[str], seeds: Sequence[int]) -> list[Point]:
    """Everything to simulate."""
    found = []
    for place in places:
        options = SimulateOptions(**{**base, **PLACES[place]})
        for seed in seeds:
            of_seed = replace(options, seed=seed)
            found.append(Point((place, AGAIN, None), replace(of_seed, evictor=AGAIN)))
            found += [
                Point((place, evictor, gbps), replace(of_seed, evictor=evictor, link_gbps=gbps))
                for gbps in GBPS
                for evictor in (SWAP, CHEAPEST)
            ]
    return found


def compare(results: Results) -> list[dict[str, Any]]:
    """A row a place and speed: P95 TTFT of each evictor, and the cheapest one's over the better one's."""
    rows = []
    for place, gbps in [(place, gbps) for place, evictor, gbps in results if evictor == SWAP]:
        swap, again, ours = results[place, SWAP, gbps], results[place, AGAIN, None], results[place, CHEAPEST, gbps]
        p95 = {name: each["ttft_p95_s"] for name, each in ((SWAP, swap), (AGAIN, again), (CHEAPEST, ours))}
        by_seed = [
            seconds / min(swap["ttft_p95_s_by_seed"][seed], again["ttft_p95_s_by_seed"][seed])
            for seed, seconds in ours["ttft_p95_s_by_seed"].items()
            if seconds is not None
        ]
        rows.append(
            {
                "place": place,
                "gbps": gbps,
                **{f"{name}_p95_s": seconds for name, seconds in p95.items()},
                "over_the_better": p95[CHEAPEST] / min(p95[SWAP], p95[AGAIN]),
                "over_the_better_by_seed": by_seed,
                "recomputed_share": ours["drops"] / max(1, ours["drops"] + ours["swap_outs"] + ours["clean_evictions"]),
                "tokens_per_s": {SWAP: swap["tokens_per_s"], CHEAPEST: ours["tokens_per_s"]},
            }
        )
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """In Markdown; P95 TTFT in seconds."""
    table = Table(title=None, box=box.MARKDOWN)
    for head in ("where", "GB/s", SWAP, AGAIN, CHEAPEST, "over the better", "each seed", "dropped"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["place"],
            f"{row['gbps']:g}",
            *(f"{row[f'{name}_p95_s']:.3f}" for name in (SWAP, AGAIN, CHEAPEST)),
            f"{row['over_the_better']:.2f}",
            " / ".join(f"{each:.2f}" for each in row["over_the_better_by_seed"]),
            f"{row['recomputed_share']:.0%}",
        )
    output(200).print(table)


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """A panel a place: P95 TTFT over the link's speed, a line an evictor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    places = list(dict.fromkeys(row["place"] for row in rows))
    figure, axes = plt.subplots(1, len(places), figsize=(5 * len(places), 4.2), layout="constrained", squeeze=False)
    for axis, place in zip(axes[0], places, strict=True):
        here = [row for row in rows if row["place"] == place]
        for name, style in ((SWAP, "--"), (AGAIN, ":"), (CHEAPEST, "-")):
            color, width = ("black", 2.2) if name == CHEAPEST else (None, 1.5)
            gbps, p95 = [row["gbps"] for row in here], [row[f"{name}_p95_s"] for row in here]
            axis.plot(gbps, p95, style, label=name, color=color, linewidth=width, marker=".")
        axis.set(xscale="log", yscale="log", xlabel="link, GB/s", ylabel="TTFT P95, s", title=place)
        axis.grid(visible=True, which="both", alpha=0.25)
    axes[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def run_command(arguments: Sequence[str]) -> None:
    """Simulate, write and print.

    Raises:
        UsageError: in one line.
    """
    about = (__doc__ or "").partition("\n")[0]
    rows = run_sweep("cheapest_switch", arguments, about, PLACES, points, compare, plot)
    print_table(rows)
    worst = max(rows, key=lambda row: row["over_the_better"])
    verdict = "met" if worst["over_the_better"] <= MOST else "MISSED"
    print(
        f"at most {MOST:.2f} of the better one: {verdict}; the worst is {worst['over_the_better']:.2f}, "
        f"{worst['place']}, {worst['gbps']:g} GB/s"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    return exit_status("cheapest_switch", lambda: run_command(arguments))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

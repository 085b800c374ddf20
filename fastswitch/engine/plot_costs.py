"""What copies cost on a machine, as a picture: time a byte by size, and where one way overtakes another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastswitch.kernels import DIRECTIONS, CopyDirection, TransferCosts

__all__ = ["plot_costs"]

COUNTS = (1, 16, 128, 1024)
SIZES = np.geomspace(4096, 4 << 20, 61)


def plot_costs(costs: TransferCosts, title: str, path: Path) -> None:
    """Write a PNG: a row a direction, a panel for each number of copies in a job, GB/s of every way over their size.

    Where two lines cross the choice changes; a band at the foot has the colour of the way that is chosen. For
    ``staged`` the host's side is taken to be as scattered as the device's.

    Args:
        costs: a machine's table.
        title: over the panels.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    # On a CPU both directions are the same copies.
    rows = [each for each in DIRECTIONS if each == DIRECTIONS[0] or costs.ways[each] != costs.ways[DIRECTIONS[0]]]
    figure, axes = plt.subplots(
        len(rows), len(COUNTS), figsize=(4 * len(COUNTS), 3.6 * len(rows)), layout="constrained", squeeze=False
    )
    for row, direction in enumerate(rows):
        for column, count in enumerate(COUNTS):
            _panel(axes[row, column], costs, direction, count)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _panel(axis: Any, costs: TransferCosts, direction: CopyDirection, count: int) -> None:
    colors = {way: f"C{position}" for position, way in enumerate(costs.ways[direction])}
    for way, cost in costs.ways[direction].items():
        seconds = np.array([cost.seconds(count, size) for size in SIZES])
        axis.plot(SIZES / 1024, count * SIZES / seconds / 1e9, label=way, color=colors[way])
    chosen = [colors[costs.cheapest(direction, count, size)] for size in SIZES]
    axis.scatter(
        SIZES / 1024, np.full(len(SIZES), 0.02), c=chosen, marker="s", s=18, transform=axis.get_xaxis_transform()
    )
    plural = "copy" if count == 1 else "copies"
    axis.set(xscale="log", yscale="log", xlabel="KiB a copy", ylabel="GB/s")
    axis.set_title(f"{direction.replace('_', ' ')}, {count} {plural} a job", fontsize=9)
    axis.grid(visible=True, which="both", alpha=0.25)

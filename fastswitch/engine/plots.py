"""The tails of a bench as a picture: for each run how large a share of the samples is above a latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["plot_tails"]


def plot_tails(
    samples: Mapping[str, Mapping[str, Sequence[float] | NDArray[np.float64]]], title: str, path: Path
) -> None:
    """Write a PNG, one panel a metric, one line a run, logarithmic both ways.

    Args:
        samples: run |-> metric |-> seconds.
        title: over the panels; says what was emulated.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    metrics = list(next(iter(samples.values())))
    figure, axes = plt.subplots(1, len(metrics), figsize=(5 * len(metrics), 4.2), layout="constrained")
    for axis, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for position, (name, of_run) in enumerate(samples.items()):
            _line(axis, np.sort(of_run[metric]), name, position)
        axis.set(xscale="log", yscale="log", xlabel="ms", title=metric, ylabel="share of samples above")
        axis.grid(visible=True, which="both", alpha=0.25)
    np.atleast_1d(axes)[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _line(axis: Any, seconds: NDArray[np.float64], name: str, position: int) -> None:
    above = 1 - np.arange(len(seconds)) / max(1, len(seconds))
    style = "-" if name in ("fastswitch", "paper") else ":" if name == "free_switch" else "--"
    color, width = ("black", 2.2) if name == "fastswitch" else (f"C{position}", 1.5)
    axis.step(seconds * 1e3, above, where="post", label=name, linestyle=style, color=color, linewidth=width)

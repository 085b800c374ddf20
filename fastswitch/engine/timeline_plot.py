"""Timelines as a picture: what each run computed and copied in the same seconds, one run below the other."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastswitch.engine.switch_record import DROPPED, SwitchRecord
from fastswitch.engine.timeline import Timeline
from fastswitch.engine.timeline_window import Window, busiest_window
from fastswitch.memory import SwapDirection

__all__ = ["plot_timelines"]

COMPUTE_Y, OUT_Y, IN_Y = 2, 1, 0  # the lanes, from below
HEIGHT = 0.72
TITLE_WIDTH = 150  # characters that the figure is wide
COLORS = {
    "iteration": "#8fb8de",
    "iteration with prompt tokens": "#2f6ca8",
    "stall": "#d62728",
    "copy to the host": "#f0a030",
    "copy to the device": "#3a9a5b",
}
MARKS = {"eviction without a copy": ("|", "#a05a00"), "dropped, to be computed again": ("x", "#d62728")}


def plot_timelines(timelines: Mapping[str, Timeline], title: str, path: Path) -> None:
    """Write a PNG: for each run the lanes compute, swap-out and swap-in, in one short window in which they switch.

    Args:
        timelines: run name |-> what happened.
        title: over the runs; says what was emulated or simulated.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    window = busiest_window(list(timelines.values()))
    figure, axes = plt.subplots(
        len(timelines),
        1,
        figsize=(13, 1.5 + 1.15 * len(timelines)),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for axis, (name, timeline) in zip(axes[:, 0], timelines.items(), strict=True):
        _run(axis, name, timeline, window)
    axes[-1, 0].set_xlabel(f"ms from {window.start_s:.3f} s of each run's clock")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle("\n".join([*textwrap.wrap(title, TITLE_WIDTH), window.title]), fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _run(axis: Any, name: str, timeline: Timeline, window: Window) -> None:
    iterations = [each for each in timeline.iterations if window.meets(each.start_s, each.end_s)]
    decodes = [(each.start_s, each.end_s) for each in iterations if each.num_tokens <= each.num_requests]
    prompts = [(each.start_s, each.end_s) for each in iterations if each.num_tokens > each.num_requests]
    stalls = [(each.start_s, each.end_s) for each in timeline.stalls if window.meets(each.start_s, each.end_s)]
    _bars(axis, window, decodes, COMPUTE_Y, "iteration")
    _bars(axis, window, prompts, COMPUTE_Y, "iteration with prompt tokens")
    _bars(axis, window, stalls, COMPUTE_Y, "stall")
    _bars(axis, window, _copies(timeline.switches, SwapDirection.SWAP_OUT), OUT_Y, "copy to the host")
    _bars(axis, window, _copies(timeline.switches, SwapDirection.SWAP_IN), IN_Y, "copy to the device")
    _marks(axis, window, timeline.switches)
    axis.set(xlim=(0, window.seconds * 1e3), ylim=(-0.5, 2.5))
    axis.set_yticks([COMPUTE_Y, OUT_Y, IN_Y], ["compute", "swap-out", "swap-in"], fontsize=7)
    axis.tick_params(axis="y", length=0)
    stalled_ms = sum(window.milliseconds(*stall)[1] for stall in stalls)
    axis.set_title(name, loc="left", fontsize=9, fontweight="bold", pad=2)
    seen = f"{len(iterations)} iterations, stall {stalled_ms:,.{0 if stalled_ms >= 100 else 1}f} ms"
    axis.set_title(seen, loc="right", fontsize=8, pad=2)
    axis.grid(visible=True, axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _copies(switches: Iterable[SwitchRecord], direction: SwapDirection) -> list[tuple[float, float]]:
    return [(each.start_s, each.end_s) for each in switches if each.copied and each.direction is direction]


def _bars(axis: Any, window: Window, spans: Iterable[tuple[float, float]], y: int, what: str) -> None:
    shown = [window.milliseconds(*span) for span in spans if window.meets(*span)]
    # the edge keeps neighbours apart, and shows what is too short to be a bar
    edge = "white" if what.startswith("iteration") else COLORS[what]
    axis.broken_barh(shown, (y - HEIGHT / 2, HEIGHT), facecolor=COLORS[what], edgecolor=edge, linewidth=0.5)


def _marks(axis: Any, window: Window, switches: Sequence[SwitchRecord]) -> None:
    """What left the device without a copy, on the lane it would have taken."""
    moments = [each for each in switches if not each.copied and window.meets(each.landed_s, each.landed_s)]
    for label, dropped in zip(MARKS, (False, True), strict=True):
        at_ms = [
            window.milliseconds(each.landed_s, each.landed_s)[0]
            for each in moments
            if (each.way == DROPPED) is dropped and each.error is None
        ]
        marker, color = MARKS[label]
        axis.plot(at_ms, [OUT_Y] * len(at_ms), marker, color=color, markersize=7, markeredgewidth=1.5)


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bars: list[Any] = [Patch(color=color, label=label) for label, color in COLORS.items()]
    return bars + [
        Line2D([], [], linestyle="", marker=marker, color=color, markeredgewidth=1.5, label=label)
        for label, (marker, color) in MARKS.items()
    ]

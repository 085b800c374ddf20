"""The report's pictures: tails, the ablation as bars, the load sweep, a moment of four runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastswitch.engine.reproduce.case import options_of
from fastswitch.engine.reproduce.cells import seconds
from fastswitch.engine.reproduce.evaluation import QUOTED_P99_S, Evaluation, Place
from fastswitch.engine.reproduce.plan import FOUR_RUNS, LOAD
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.engine.timeline_plot import plot_timelines

__all__ = ["draw_pictures"]

TIMELINE_CONVERSATIONS = 60
PANELS = {"ttft_s": "TTFT", "tbt_s": "TBT", "tbt_resident_s": "resident TBT"}
BARS = (("ttft_s", "p95", "TTFT P95, s"), ("tbt_s", "p99.9", "TBT P99.9, s"), ("tokens_per_s", None, "tokens/s"))


def draw_pictures(evaluation: Evaluation, folder: Path) -> list[tuple[str, str]]:
    """Write those for which there are figures; captions and file names.

    Raises:
        OSError: if the disk refuses.
    """
    headlines = evaluation.headlines()
    drawn = []
    if headlines:
        whole = evaluation.ablations()
        _draw(folder / "tails.png", lambda plt: _tails(plt, headlines))
        _draw(folder / "ablation.png", lambda plt: _ablation(plt, whole))
        _draw_timeline(evaluation, folder / "timeline.png")
        drawn += [
            ("Share of the samples above a latency, 1 conversation a second", "tails.png"),
            ("All runs, 1 conversation a second", "ablation.png"),
            ("The same seconds of four runs", "timeline.png"),
        ]
    sweeps = {place: results for place in evaluation.places if (results := evaluation.at(LOAD, place))}
    if sweeps:
        _draw(folder / "load.png", lambda plt: _loads(plt, sweeps))
        drawn.insert(1, ("Offered load over what `free_switch` can serve", "load.png"))
    return drawn


def _draw(path: Path, draw: Callable[[Any], Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = draw(plt)
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)


def _tails(plt: Any, headlines: Mapping[Place, Result]) -> Any:
    figure, axes = plt.subplots(
        len(headlines),
        len(PANELS),
        figsize=(5 * len(PANELS), 3.4 * len(headlines)),
        layout="constrained",
        squeeze=False,
    )
    for row, ((setup, priority), result) in zip(axes, headlines.items(), strict=True):
        for axis, (metric, label) in zip(row, PANELS.items(), strict=True):
            for run, samples in result.samples.items():
                values, above = samples[metric].above()
                axis.step(values, above, where="post", label=run, **_style(run))
            axis.set(xscale="log", yscale="log", ylim=(1e-5 if metric != "ttft_s" else 1e-4, 1.5))
            axis.set(title=f"{label}: {setup}, {priority}", xlabel="s", ylabel="share above")
            axis.grid(visible=True, which="major", alpha=0.25)
    axes[0, 0].legend(fontsize=8)
    return figure


def _ablation(plt: Any, results: Mapping[Place, Result]) -> Any:
    figure, axes = plt.subplots(
        len(BARS), len(results), figsize=(4.2 * len(results), 8.5), layout="constrained", squeeze=False
    )
    for column, ((setup, priority), result) in zip(axes.T, results.items(), strict=True):
        for axis, (metric, percentile, label) in zip(column, BARS, strict=True):
            heights = {run: result.figure(run, metric, percentile) or 0.0 for run in result.runs}
            bars = axis.bar([*heights], [*heights.values()], color=[_style(run)["color"] for run in heights])
            axis.bar_label(bars, [seconds(result.figure(run, metric, percentile)) for run in heights], fontsize=7)
            axis.set(ylabel=label)
            axis.margins(y=0.1)
            axis.tick_params(axis="x", rotation=60, labelsize=8)
            axis.grid(visible=True, axis="y", alpha=0.25)
        column[0].set_title(f"{setup}, {priority}")
    return figure


def _loads(plt: Any, sweeps: Mapping[Place, list[Result]]) -> Any:
    figure, axes = plt.subplots(2, len(sweeps), figsize=(4.6 * len(sweeps), 7), layout="constrained", squeeze=False)
    for (above, below), ((setup, priority), results) in zip(axes.T, sweeps.items(), strict=True):
        loads = [result.case.load for result in results]
        for run in FOUR_RUNS:
            p99 = [result.figure(run, "ttft_s", "p99") for result in results]
            above.plot(loads, [float("nan") if value is None else value for value in p99], label=run, **_style(run))
            below.plot(loads, [result.figure(run, "tokens_per_s") for result in results], **_style(run))
        above.axhline(QUOTED_P99_S, color="grey", linewidth=0.8)
        known = any(result.figure(run, "ttft_s", "p99") for result in results for run in FOUR_RUNS)
        above.set(title=f"{setup}, {priority}", yscale="log" if known else "linear", ylabel="TTFT P99, s")
        below.set(xlabel="offered load", ylabel="tokens/s")
        for axis in (above, below):
            axis.grid(visible=True, alpha=0.25)
    axes[0, 0].legend(fontsize=8)
    return figure


def _draw_timeline(evaluation: Evaluation, path: Path) -> None:
    """Of a short simulation of its own: the long ones' timelines are not kept."""
    result = next(iter(evaluation.headlines().values()))
    usual = result.case.options
    options = options_of(
        {
            "setup": usual.setup,
            "workload": usual.workload,
            "conversations": min(TIMELINE_CONVERSATIONS, usual.conversations or TIMELINE_CONVERSATIONS),
            "min_turns": usual.min_turns,
            "scale": usual.scale,
            "priority": usual.priority,
            "rate": usual.rate,
            "think": usual.think,
            "seed": usual.seed,
        }
    )
    experiment = prepare_simulation(options)
    experiment.records_timelines = True
    timelines = {}
    for run in FOUR_RUNS:
        timeline = experiment.serve(SIMULATED_RUNS[run]).timeline
        assert timeline is not None, "it was to be kept"
        timelines[run] = timeline
    plot_timelines(timelines, f"{options.command} --runs {','.join(FOUR_RUNS)}   (simulated)", path)


def _style(run: str) -> dict[str, Any]:
    """One line of a run, the same in all pictures."""
    if run == "fastswitch":
        return {"color": "black", "linestyle": "-", "linewidth": 2.2}
    dashes = "-" if run == "paper" else ":" if run == "free_switch" else "--"
    return {"color": f"C{list(SIMULATED_RUNS).index(run)}", "linestyle": dashes, "linewidth": 1.4}

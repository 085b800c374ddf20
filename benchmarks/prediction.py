"""Predicted figures beside measured ones: what the error is, and whether it is more than the measurement's own spread.

Ours. A run is measured several times, and predicted for each of these by itself: the median over a few courses of the
machine's noise. The error is the median over the pairs. A prediction whose median lies between the smallest and the
largest measured one is *within* the spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FIGURES", "Compared", "compare", "summary"]

Figures = Mapping[str, Any]  # a run's, as in the JSON of `fastswitch bench`

LATENCIES = ("ttft_s", "tbt_s", "tbt_resident_s")
PERCENTILES = ("p50", "p90", "p95", "p99")
SWITCHES = ("swap_outs", "swap_ins", "clean_evictions", "drops")


def _tail(metric: str, percentile: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[metric][percentile]


def _count(name: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["switches"][name])


def _megabytes(figures: Figures) -> float:
    return float(figures["switches"]["bytes_out"] + figures["switches"]["bytes_in"]) / 1e6


# kind, figure |-> how it is read off a run; None where there are too few samples
FIGURES: dict[tuple[str, str], Callable[[Figures], float | None]] = {
    **{("latency", f"{metric}.{p}"): _tail(metric, p) for metric in LATENCIES for p in PERCENTILES},
    ("rate", "tokens_per_s"): lambda figures: float(figures["tokens_per_s"]),
    ("rate", "iterations"): lambda figures: float(figures["iterations"]),
    **{("count", name): _count(name) for name in SWITCHES},
    ("moved", "megabytes"): _megabytes,
    ("moved", "stall_s"): _count("stall_s"),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one run.

    Attributes:
        run, kind, figure: which.
        measured, predicted: one each time.
    """

    run: str
    kind: str
    figure: str
    measured: tuple[float, ...]
    predicted: tuple[float, ...]

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1, in the median; None where one measurement is 0 and not all of both are."""
        if not all(self.measured):
            return None if any(self.predicted + self.measured) else 0.0
        return statistics.median(p / m - 1 for p, m in zip(self.predicted, self.measured, strict=True))

    @property
    def spread(self) -> float:
        """Half the way from the smallest to the largest measured, relative to the median; 0 of nothing."""
        median = statistics.median(self.measured)
        return (max(self.measured) - min(self.measured)) / 2 / median if median else 0.0

    @property
    def within(self) -> bool:
        """Whether the predicted median is one that might have been measured."""
        return min(self.measured) <= statistics.median(self.predicted) <= max(self.measured)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "figure": self.figure,
            "measured": list(self.measured),
            "predicted": list(self.predicted),
            "error": self.error,
            "spread": self.spread,
            "within_spread": self.within,
        }


def compare(run: str, measured: Sequence[Figures], predicted: Sequence[Sequence[Figures]]) -> list[Compared]:
    """Every figure that has enough samples in all of them.

    Args:
        run: its name.
        measured: the figures of each time.
        predicted: for each of these, the figures of all courses.
    """
    found = []
    for (kind, name), read in FIGURES.items():
        real = [read(figures) for figures in measured]
        courses = [[read(figures) for figures in each] for each in predicted]
        if None in real or any(None in each for each in courses):
            continue
        simulated = [statistics.median(value or 0.0 for value in each) for each in courses]
        found.append(Compared(run, kind, name, tuple(value or 0.0 for value in real), tuple(simulated)))
    return found


def summary(compared: Iterable[Compared]) -> dict[str, Any]:
    """For each kind of figure that is not 0: how many, how many within the spread, the median and the worst |error|."""
    by_kind: dict[str, list[Compared]] = {}
    for each in compared:
        if each.error is not None and any(each.measured + each.predicted):
            by_kind.setdefault(each.kind, []).append(each)
    result = {}
    for kind, group in by_kind.items():
        errors = [abs(each.error or 0.0) for each in group]
        worst = max(group, key=lambda each: abs(each.error or 0.0))
        result[kind] = {
            "figures": len(group),
            "within_spread": sum(each.within for each in group),
            "median_error": statistics.median(errors),
            "worst_error": max(errors),
            "worst": f"{worst.figure} of {worst.run}",
        }
    return result

"""Which seconds of some runs to look at: few enough to see an iteration, and those in which most is switched.

Ours. All runs are shown in the same seconds, since what arrives arrives at the same time in each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.timeline import Timeline

__all__ = ["MOST_ITERATIONS", "Window", "busiest_window"]

MOST_ITERATIONS = 60  # of one run: more are lines and no bars
TYPICAL_ITERATIONS = 45  # of the median length
LEAD = 0.05  # of the window, before the switch that it was chosen for

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of the runs' clocks.

    Attributes:
        start_s, seconds: which.
        num_switches: that all runs together make in it.
        most_iterations: of a run, in it.
    """

    start_s: float
    seconds: float
    num_switches: int
    most_iterations: int

    @property
    def title(self) -> str:
        """Which seconds, and why these."""
        span = f"{self.start_s:.3f} s to {self.start_s + self.seconds:.3f} s"
        held = f"{self.num_switches} switches" if self.num_switches else "nothing was switched in any run"
        return f"{span}: {held}, at most {self.most_iterations} iterations a run"

    def meets(self, start_s: float, end_s: float) -> bool:
        """Whether a span is seen in it."""
        return end_s >= self.start_s and start_s <= self.start_s + self.seconds

    def milliseconds(self, start_s: float, end_s: float) -> tuple[float, float]:
        """The seen part of a span that meets it: its start from the window's, and its length."""
        start = max(start_s - self.start_s, 0.0)
        return start * 1e3, (min(end_s - self.start_s, self.seconds) - start) * 1e3


def busiest_window(timelines: Sequence[Timeline]) -> Window:
    """The window in which most runs switch, and of those the one with most switches; the earliest of equals.

    Args:
        timelines: at least one.
    """
    runs = [np.array([each.start_s for each in timeline.iterations]) for timeline in timelines]
    switches = [np.array([each.start_s for each in timeline.switches]) for timeline in timelines]
    seconds = _typical_s(timelines) * TYPICAL_ITERATIONS
    window = _busiest(runs, switches, seconds)
    while window.most_iterations > MOST_ITERATIONS and window.seconds > seconds / 1e3:
        window = _busiest(runs, switches, window.seconds / 2)
    return window


def _busiest(runs: Sequence[Times], switches: Sequence[Times], seconds: float) -> Window:
    begins = np.unique(np.concatenate(switches)) - LEAD * seconds
    if not len(begins):
        begins = np.array([min((run[0] for run in runs if len(run)), default=0.0)])
    begins = np.maximum(begins, 0.0)
    iterations = np.max([_inside(run, begins, seconds) for run in runs], axis=0)
    counts = np.array([_inside(run, begins, seconds) for run in switches])
    crowded = iterations > MOST_ITERATIONS
    best = np.lexsort((begins, -counts.sum(axis=0), -(counts > 0).sum(axis=0), crowded))[0]
    return Window(float(begins[best]), seconds, int(counts[:, best].sum()), int(iterations[best]))


def _typical_s(timelines: Sequence[Timeline]) -> float:
    lengths = [each.end_s - each.start_s for timeline in timelines for each in timeline.iterations]
    return float(np.median([length for length in lengths if length > 0] or [1.0]))


def _inside(moments: Times, begins: Times, seconds: float) -> NDArray[np.int64]:
    """How many of the sorted ``moments`` lie in the window of each begin."""
    after = np.searchsorted(moments, begins + seconds, side="right")
    return np.asarray(after - np.searchsorted(moments, begins, side="left"), np.int64)

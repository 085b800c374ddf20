"""Measures runs on the real engine, each after a pass of calibration, and predicts them by what the passes found."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from copy_times import CopyTimes
from cpu_preset import IterationTimes, fit_roofline, grid, model_shape
from prediction import Compared, Figures, compare, summary

from fastswitch.engine.experiment import Experiment
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator import Roofline, SimulatedBed

__all__ = ["Predictor"]

PASSES = 2  # of calibration before a measured run; those before the next one come after it
COURSES = 5  # of a prediction, each with the noise from another place on: one of them is not the typical one


class Predictor:
    """One experiment, served on the machine and in the simulator.

    Args:
        experiment: workload, arrivals and runs.
        bed: what it is served on; its link is emulated.
    """

    def __init__(self, experiment: Experiment, bed: ModelBed) -> None:
        assert bed.link is not None
        self._experiment = experiment
        self._bed = bed
        self._link = bed.link
        self._shape = model_shape(bed.model, bed.spec.layout)
        self.runs = experiment.runs
        longest = experiment.workload.max_context
        batches = grid(longest, bed.spec.device_blocks * bed.spec.layout.block_size)
        self._iterations = IterationTimes(bed, batches)
        self._copies = CopyTimes(bed.link, bed.spec.layout, self.runs, longest)
        self._loop_s: dict[str, list[float]] = {run.name: [] for run in self.runs}  # seconds of a step's Python
        self._first_pass: dict[str, list[int]] = {run.name: [] for run in self.runs}  # before each measurement
        self._measured: dict[str, list[Figures]] = {run.name: [] for run in self.runs}

    def measure(self, run: RunSpec) -> None:
        """Calibrate, then serve the run on the real engine."""
        self._first_pass[run.name].append(self._iterations.num_passes)
        self._calibrate()
        start = time.perf_counter()
        simulated = self._simulate(run, self._roofline())
        self._loop_s[run.name].append((time.perf_counter() - start) / simulated["iterations"])
        self._measured[run.name].append(self._experiment.serve(run).figures)

    def predict(self, run: RunSpec) -> list[list[Figures]]:
        """The run's figures in the simulator, for each time that it was measured a few courses.

        The machine is as fast and as noisy as it was in the passes right before and right after.
        """
        fitted = self._roofline()
        whole = replace(fitted, iteration_s=fitted.iteration_s + statistics.median(self._loop_s[run.name]))
        predicted = []
        for first in self._first_pass[run.name]:
            noise = self._iterations.noise(first, first + 2 * PASSES)
            starts = [len(noise) * each // COURSES for each in range(COURSES)]
            predicted.append([self._simulate(run, whole, noise[start:] + noise[:start]) for start in starts])
        return predicted

    def as_json(self) -> dict[str, Any]:
        """Calibration, figures and errors, of all runs; each has been measured."""
        self._calibrate()
        compared = {run.name: compare(run.name, self._measured[run.name], self.predict(run)) for run in self.runs}
        every: list[Compared] = [each for group in compared.values() for each in group]
        experiment = self._experiment
        return {
            "schema": 1,
            "command": experiment.command,
            "environment": dict(self._bed.environment()),
            **self._bed.as_json(),
            "pools": {"device_blocks": self._bed.spec.device_blocks, "host_blocks": self._bed.spec.host_blocks},
            "policy": self._bed.spec.policy.as_json(),
            "workload": {**experiment.workload.summary(), "last_start_s": experiment.plan.last_start_s},
            "calibration": self._calibration(),
            "runs": [{"name": name, "figures": [each.as_json() for each in group]} for name, group in compared.items()],
            "summary": summary(every),
        }

    def _calibrate(self) -> None:
        for _ in range(PASSES):
            self._iterations.sample()
            self._copies.sample(self._iterations.iterate)

    def _roofline(self) -> Roofline:
        return fit_roofline(self._shape, self._iterations.batches, self._iterations.medians())

    def _simulate(self, run: RunSpec, roofline: Roofline, noise: Sequence[float] = (1.0,)) -> Figures:
        bed = SimulatedBed("this machine", {}, {}, self._bed.spec, roofline, self._link, self._copies.fit(), noise)
        given = self._experiment
        return Experiment(given.command, bed, given.workload, given.plan, given.runs).serve(run).figures

    def _calibration(self) -> Mapping[str, Any]:
        fitted, medians = self._roofline(), self._iterations.medians()
        shares = np.percentile(self._iterations.noise(), (5, 25, 75, 95, 99))
        noise = dict(zip(("p5", "p25", "p75", "p95", "p99"), map(float, shares), strict=True))
        points = [
            {"batch": batch, "measured_s": seconds, "fitted_s": fitted.seconds(batch)}
            for batch, seconds in zip(self._iterations.batches, medians, strict=True)
        ]
        errors = [abs(point["fitted_s"] / point["measured_s"] - 1) for point in points]
        preset = {name: value for name, value in asdict(fitted).items() if name != "model"}
        return {
            "passes": self._iterations.num_passes,
            "noise": noise,
            "roofline": {name: value if math.isfinite(value) else None for name, value in preset.items()},
            "median_error": statistics.median(errors),
            "max_error": max(errors),
            "copy_work": asdict(self._copies.fit()),
            "loop_s": {name: statistics.median(seconds) for name, seconds in self._loop_s.items()},
            "points": points,
            "jobs": self._copies.as_json(),
        }

"""What one simulation gave: its figures, what it lost to switches, and enough of its samples for tails and curves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from fastswitch.engine.lost_time import LostTime
from fastswitch.engine.reproduce.case import Simulation
from fastswitch.engine.reproduce.kept_samples import KeptSamples
from fastswitch.engine.reproduce.saturation import is_saturated, offered_tokens
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.prepare import prepare_simulation

__all__ = ["Outcome", "simulate"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run's.

    Attributes:
        figures: its JSON object, with ``offered_tokens_per_s``, ``saturated``, ``lost`` and ``workload``.
        samples: latencies in seconds by metric.
    """

    figures: dict[str, Any]
    samples: dict[str, KeptSamples]

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        arrays = {
            f"{metric}/{name}": getattr(kept, name)
            for metric, kept in self.samples.items()
            for name in ("values", "weights", "whole_from")
        }
        # a name of its own: two commands may write into one folder
        with NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as part:
            try:
                np.savez_compressed(part, figures=np.array(json.dumps(self.figures)), **arrays)
            except BaseException:
                Path(part.name).unlink()
                raise
        Path(part.name).replace(path)

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read what ``save`` wrote.

        Raises:
            ValueError, OSError, KeyError: it is something else.
        """
        with np.load(path, allow_pickle=False) as file:
            metrics = [name.removesuffix("/values") for name in file.files if name.endswith("/values")]
            samples = {
                metric: KeptSamples(
                    file[f"{metric}/values"], file[f"{metric}/weights"], int(file[f"{metric}/whole_from"])
                )
                for metric in metrics
            }
            return cls(json.loads(str(file["figures"])), samples)


def simulate(simulation: Simulation) -> Outcome:
    """Simulate one run."""
    experiment = prepare_simulation(simulation.options)
    experiment.records_timelines = True
    served = experiment.serve(SIMULATED_RUNS[simulation.run])
    assert served.timeline is not None, "it was to be kept"
    offered = offered_tokens(experiment.workload, experiment.plan)
    figures = {
        **served.figures,
        "offered_tokens_per_s": None if offered is None else offered.per_s,
        "saturated": is_saturated(served.figures["backlog"], offered),
        "lost": asdict(LostTime.of(served.timeline)),
        "workload": experiment.workload.summary(),
    }
    return Outcome(figures, {metric: KeptSamples.of(seconds) for metric, seconds in served.samples.items()})

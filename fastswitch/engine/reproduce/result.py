"""A case with the figures of its runs, and several of them that differ in the seed alone as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastswitch.engine.reproduce.case import Case
from fastswitch.engine.reproduce.kept_samples import KeptSamples
from fastswitch.engine.reproduce.outcome import Outcome
from fastswitch.engine.speedups import speedups

__all__ = ["POOLED", "Result", "pooled"]

POOLED = "pooled"  # in place of a seed


@dataclass(frozen=True, slots=True)
class Result:
    """One setting's.

    Attributes:
        case: what was simulated; of several seeds the first one's.
        runs: name |-> figures, in the order of the case.
        samples: name |-> metric |-> latencies in seconds.
        seeds: of what is pooled; one where nothing is.
    """

    case: Case
    runs: Mapping[str, Mapping[str, Any]]
    samples: Mapping[str, Mapping[str, KeptSamples]]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, case: Case, outcomes: Mapping[str, Outcome]) -> Result:
        """Of one case."""
        runs = {name: outcomes[name].figures for name in case.runs}
        samples = {name: outcomes[name].samples for name in case.runs}
        return cls(case, runs, samples, (case.options.seed,))

    def figure(self, run: str, metric: str, percentile: str | None = None) -> float | None:
        """One figure; None where there are too few samples, or no such run."""
        value = self.runs[run][metric] if run in self.runs else None
        if percentile is not None and value is not None:
            value = value[percentile]
        return None if value is None else float(value)

    def is_saturated(self, run: str) -> bool:
        """Whether more was asked of the run than it can serve."""
        return bool(self.runs[run]["saturated"])

    @property
    def workload(self) -> Mapping[str, Any]:
        """What was served; of several seeds with the first one."""
        facts: Mapping[str, Any] = next(iter(self.runs.values()))["workload"]
        return facts

    @property
    def speedups(self) -> dict[str, dict[str, float | None]]:
        """Pair of runs |-> figure |-> how many times better the first is."""
        return speedups([*self.runs.values()])

    def as_json(self) -> dict[str, Any]:
        """The contract's object."""
        facts = self.case.as_json()
        if len(self.seeds) > 1:
            facts = {**facts, "seed": POOLED, "seeds": list(self.seeds)}
            del facts["command"]  # there is one a seed
        saturated = {name: self.is_saturated(name) for name in self.runs}
        return {**facts, "saturated": saturated, "runs": [*self.runs.values()], "speedup": self.speedups}


def pooled(results: Sequence[Result]) -> Result:
    """Several seeds' as one, of the runs that all have: percentiles of all samples, sums of all counts.

    Saturated is what most of them are.
    """
    first = results[0]
    if len(results) == 1:
        return first
    shared = [run for run in first.runs if all(run in result.runs for result in results)]
    samples = {
        run: {metric: KeptSamples.pooled([r.samples[run][metric] for r in results]) for metric in first.samples[run]}
        for run in shared
    }
    runs = {run: _pooled_figures([result.runs[run] for result in results], samples[run]) for run in shared}
    return Result(first.case, runs, samples, tuple(seed for result in results for seed in result.seeds))


def _pooled_figures(runs: Sequence[Mapping[str, Any]], samples: Mapping[str, KeptSamples]) -> dict[str, Any]:
    seconds = sum(run["seconds"] for run in runs)
    lost = _sums([run["lost"] for run in runs])
    lost["mean_requests"] = sum(run["lost"]["mean_requests"] * run["seconds"] for run in runs) / seconds
    return {
        "name": runs[0]["name"],
        "workload": runs[0]["workload"],
        **{metric: kept.tail() for metric, kept in samples.items()},
        "tokens_per_s": sum(run["tokens_per_s"] * run["seconds"] for run in runs) / seconds,
        "seconds": seconds,
        "iterations": sum(run["iterations"] for run in runs),
        "switches": _sums([run["switches"] for run in runs]),
        "saturated": sum(run["saturated"] for run in runs) > len(runs) / 2,
        "lost": lost,
    }


def _sums(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of every count that all of them have; means and names are none."""
    counted = [name for name, value in each[0].items() if isinstance(value, int | float) and name != "blocks_per_copy"]
    return {name: sum(one[name] for one in each) for name in counted}

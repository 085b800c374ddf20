"""One experiment: a workload served by each run, on the same pools, with the same policy and arrivals.

Ours. Its JSON is a contract (docs/design.md); ``report`` and ``plots`` draw it. Whether a model serves it or a
simulation is the testbed's matter.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.backlog import Backlog
from fastswitch.engine.checks import InvariantChecker
from fastswitch.engine.client_figures import client_figures
from fastswitch.engine.engine import Engine
from fastswitch.engine.metrics import latency_samples, tail, tokens_sha256
from fastswitch.engine.options import ExperimentOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.request import Turn
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.service_record import ServiceRecord
from fastswitch.engine.speedups import speedups
from fastswitch.engine.testbed import Testbed
from fastswitch.engine.timeline import Timeline
from fastswitch.engine.workloads import ArrivalPlan, Workload
from fastswitch.memory import KVOverTime
from fastswitch.sched import Decision

__all__ = ["Experiment", "Progress", "Served"]

WINDOWS = 30  # of the time in which conversations start: in each, who waits throughout is compared

Progress = Callable[[str, int, int], None]  # run, turns ended, turns in all


@dataclass(frozen=True, slots=True)
class Served:
    """What one run gave.

    Attributes:
        figures: its JSON object.
        samples: latencies in seconds by metric, for plots.
        turns: (conversation, turn) |-> the engine's record of it.
        timeline: what happened when, if it was to be kept.
        service: what each client was given when, if the workload has clients.
        decisions: the schedule, if it was to be kept.
    """

    figures: dict[str, Any]
    samples: dict[str, NDArray[np.float64]]
    turns: Mapping[tuple[int, int], Turn]
    timeline: Timeline | None = None
    service: ServiceRecord | None = None
    decisions: Sequence[Decision] | None = None


@dataclass(slots=True)
class Experiment:
    """Everything decided before the first run, and the runs' figures as they come.

    Attributes:
        command: as typed.
        bed: what the runs are served on.
        workload, plan: what is served, and when.
        runs: which, in order.
        left_out: runs that were not asked for by name and cannot be made here |-> why.
        records_timelines: whether what happens when is to be kept.
        records_decisions: whether the schedules are.
        results: one JSON object a finished run.
        turn_tokens: run name |-> generated tokens by (conversation, turn).
        samples: run name |-> latency samples in seconds by metric, for plots.
        timelines: run name |-> what happened when, if it was to be kept.
        schedules: run name |-> what was decided, if it was to be kept.
        services: run name |-> what each client was given when, if the workload has clients.
    """

    command: str
    bed: Testbed
    workload: Workload
    plan: ArrivalPlan
    runs: list[RunSpec]
    left_out: dict[str, str] = field(default_factory=dict)
    records_timelines: bool = False
    records_decisions: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    turn_tokens: dict[str, dict[tuple[int, int], list[int]]] = field(default_factory=dict)
    samples: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    timelines: dict[str, Timeline] = field(default_factory=dict)
    schedules: dict[str, Sequence[Decision]] = field(default_factory=dict)
    services: dict[str, ServiceRecord] = field(default_factory=dict)

    @classmethod
    def asked_for(
        cls,
        options: ExperimentOptions,
        bed: Testbed,
        workload: Workload,
        plan: ArrivalPlan,
        runs: list[RunSpec],
        reasons: Mapping[str, str | None],
    ) -> Experiment:
        """What the options ask for; ``reasons`` are why a run cannot be made, None where it can."""
        left_out = {name: reason for name, reason in reasons.items() if reason is not None and options.runs is None}
        asked = cls(options.command, bed, workload, plan, runs, left_out)
        asked.records_timelines = options.records_timelines
        asked.records_decisions = options.decisions is not None
        return asked

    def run_all(self, progress: Progress | None = None) -> None:
        """Serve the workload with each run in turn; what is done stays in ``results`` if it is interrupted."""
        for run in self.runs:
            served = self.serve(run, progress)
            self.enter(served)
            self.turn_tokens[run.name] = {key: turn.generated for key, turn in served.turns.items()}

    def enter(self, served: Served) -> None:
        """Keep what a run gave, in the order of the runs, be it that they end in another."""
        names = [run.name for run in self.runs]
        self.results.append(served.figures)
        self.results.sort(key=lambda figures: names.index(figures["name"]))
        self.samples[served.figures["name"]] = served.samples
        self.samples = {name: self.samples[name] for name in names if name in self.samples}
        if served.timeline is not None:
            self.timelines[served.figures["name"]] = served.timeline
            self.timelines = {name: self.timelines[name] for name in names if name in self.timelines}
        if served.decisions is not None:
            self.schedules[served.figures["name"]] = served.decisions
            self.schedules = {name: self.schedules[name] for name in names if name in self.schedules}
        if served.service is not None:
            self.services[served.figures["name"]] = served.service
            self.services = {name: self.services[name] for name in names if name in self.services}

    def serve(self, run: RunSpec, progress: Progress | None = None) -> Served:
        """Serve the workload with one run.

        Raises:
            RuntimeError: if it ended with blocks held: a fault of the engine.
        """
        gc.collect()
        with self.bed.engine(run) as engine:
            over_time, checker, backlog = KVOverTime(), InvariantChecker(engine), Backlog(engine)
            recorder = engine.record() if self.records_timelines else None
            log = engine.log_decisions() if self.records_decisions else None
            clients = engine.record_service() if self.workload.records_clients else None

            def after_step(turns_ended: int) -> None:
                over_time.sample(engine.kv)
                backlog.sample()
                if self.bed.spec.check:
                    checker.check()
                if progress is not None:
                    progress(run.name, turns_ended, self.workload.num_turns)

            replay = Replay(engine, self.workload, self.plan, self._prompt, after_step)
            replay.run()
            if any(_held(engine).values()):
                raise RuntimeError(
                    f"run {run.name} ended with blocks held: {_held(engine)}; every block should be free"
                )
            served = self._served(run, engine, replay, over_time, backlog)
            if clients is not None:
                served = self._with_clients(served, engine, clients.record())
            if log is not None:
                served = replace(served, decisions=log.decisions)
            return served if recorder is None else replace(served, timeline=recorder.timeline())

    def as_json(self) -> dict[str, Any]:
        """The contract's object, of the runs finished so far."""
        spec = self.bed.spec
        return {
            "schema": 1,
            "command": self.command,
            "environment": dict(self.bed.environment()),
            **self.bed.as_json(),
            "left_out": self.left_out,
            "pools": {
                "block_size": spec.layout.block_size,
                "device_blocks": spec.device_blocks,
                "host_blocks": spec.host_blocks,
            },
            "policy": {**spec.policy.as_json(), "growth_blocks": spec.growth_blocks},
            "workload": {
                **self.workload.summary(),
                "last_start_s": self.plan.last_start_s,
                "work_s": self.bed.work_s(self.workload),
            },
            "runs": self.results,
            "speedup": speedups(self.results),
        }

    @property
    def load(self) -> float | None:
        """Work that arrives in a second, in seconds; None where all conversations start at once."""
        span_s = self.plan.last_start_s
        return self.bed.work_s(self.workload) / span_s if span_s else None

    def same_tokens(self) -> bool:
        """Whether all finished runs gave the same tokens."""
        return len({result["tokens_sha256"] for result in self.results}) <= 1

    def _prompt(self, conversation: int, turn: int) -> Sequence[int]:
        return self.bed.prompt_tokens(self.workload, conversation, turn)

    def _served(self, run: RunSpec, engine: Engine, replay: Replay, over_time: KVOverTime, backlog: Backlog) -> Served:
        turns = [replay.turns[key] for key in sorted(replay.turns)]
        num_generated = sum(len(turn.generated) for turn in turns)
        samples = latency_samples(turns)
        spec = self.bed.spec
        figures = {
            "name": run.name,
            **{metric: tail(seconds) for metric, seconds in samples.items()},
            "tokens_per_s": num_generated / replay.seconds,
            "seconds": replay.seconds,
            "iterations": engine.executed_iterations,
            "backlog": backlog.figures(turns),
            "switches": engine.counts.as_json(engine.stall_s),
            "memory": {
                "device_blocks": spec.device_blocks,
                "host_blocks": spec.host_blocks,
                "block_bytes": spec.layout.block_bytes,
                **over_time.as_json(),
                "given_up": asdict(engine.kv.statistics().given_up),
            },
            "tokens_sha256": tokens_sha256(replay.turns),
        }
        return Served(figures, samples, replay.turns)

    def _with_clients(self, served: Served, engine: Engine, record: ServiceRecord) -> Served:
        turns: dict[Hashable, list[Turn]] = {client_id: [] for client_id in record.client_ids}
        for (conversation, _), turn in served.turns.items():
            turns[self.workload.conversations[conversation].client_id].append(turn)
        weights, window_s = self.bed.spec.policy.weights, self.plan.last_start_s / WINDOWS
        clients = client_figures(record, turns, engine.counts, weights, window_s)
        return replace(served, figures={**served.figures, "clients": clients}, service=record)


def _held(engine: Engine) -> dict[str, int]:
    """Blocks held on each tier, but for those that a copy which hangs may still write."""
    now = engine.kv.statistics()
    tiers = {"device": now.device, "host": now.host}
    return {name: tier.pool.num_blocks - tier.pool.num_free - tier.quarantined for name, tier in tiers.items()}

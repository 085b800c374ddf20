"""One experiment: a workload served by each run, on the same pools, with the same policy and arrivals.

Ours. Its JSON is a contract (docs/design.md); ``report`` and ``plots`` draw it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fastswitch.engine.checks import check_engine
from fastswitch.engine.engine import Engine
from fastswitch.engine.environment import environment
from fastswitch.engine.measure import Speeds
from fastswitch.engine.metrics import latency_samples, speedup, tail, tokens_sha256
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import RUNS, EngineSpec, RunSpec, build_engine, why_no_run
from fastswitch.engine.workloads import ArrivalPlan, Workload
from fastswitch.memory import KVOverTime

__all__ = ["Experiment"]

Progress = Callable[[str, int, int], None]  # run, turns ended, turns in all


@dataclass(slots=True)
class Experiment:
    """Everything decided before the first run, and the runs' figures as they come.

    Attributes:
        options: as asked for.
        model, workload, plan: what is served.
        speeds: measured once; they set the load and the link.
        spec: what the runs share.
        runs: which, in order.
        raw_copy_ms: what a swap's copies really cost here.
        per_block_call_us: what one call of ``per_block`` costs to issue on a GPU; None on a CPU.
        results: one JSON object a finished run.
        turn_tokens: run name |-> generated tokens by (conversation, turn).
        samples: run name |-> latency samples in seconds by metric, for plots.
    """

    options: BenchOptions
    model: LoadedModel
    workload: Workload
    plan: ArrivalPlan
    speeds: Speeds
    spec: EngineSpec
    runs: list[RunSpec]
    raw_copy_ms: dict[str, float]
    per_block_call_us: float | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    turn_tokens: dict[str, dict[tuple[int, int], list[int]]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def run_all(self, progress: Progress | None = None) -> None:
        """Serve the workload with each run in turn; what is done stays in ``results`` if it is interrupted."""
        for run in self.runs:
            self.results.append(self._run(run, progress))

    def as_json(self) -> dict[str, Any]:
        """The contract's object, of the runs finished so far."""
        link = self.spec.link
        return {
            "schema": 1,
            "command": self.options.command,
            "environment": environment(self.model.model.device),
            "model": {
                "name": self.model.name,
                "dtype": self.spec.layout.dtype,
                "kv_token_bytes": self.spec.layout.token_bytes,
            },
            "link": None if link is None else {"emulated": True, "call_us": link.call_us, "gbps": link.gbps},
            "raw_copy_ms": self.raw_copy_ms,
            "per_block_call_us": self.per_block_call_us,
            "left_out": self.left_out(),
            "pools": {
                "block_size": self.spec.layout.block_size,
                "device_blocks": self.spec.device_blocks,
                "host_blocks": self.spec.host_blocks,
            },
            "policy": self.options.policy_summary(),
            "workload": {**self.workload.summary(), "last_start_s": self.plan.last_start_s, "work_s": self._work_s()},
            "runs": self.results,
            "speedup": _speedups(self.results),
        }

    def left_out(self) -> dict[str, str]:
        """Runs that were not asked for by name and cannot be made here |-> why."""
        if self.options.runs is not None:
            return {}
        reasons = {name: why_no_run(run, self.options.device) for name, run in RUNS.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def same_tokens(self) -> bool:
        """Whether all finished runs gave the same tokens."""
        return len({result["tokens_sha256"] for result in self.results}) <= 1

    def _work_s(self) -> float:
        return self.speeds.work_s(self.workload)

    def _run(self, run: RunSpec, progress: Progress | None) -> dict[str, Any]:
        gc.collect()
        with build_engine(self.spec, run) as engine:
            over_time = KVOverTime()

            def after_step(turns_ended: int) -> None:
                over_time.sample(engine.kv)
                if self.spec.check:
                    check_engine(engine)
                if progress is not None:
                    progress(run.name, turns_ended, self.workload.num_turns)

            replay = Replay(engine, self.workload, self.plan, self.model.vocab_size, after_step)
            replay.run()
            if any(_held(engine).values()):
                raise RuntimeError(
                    f"run {run.name} ended with blocks held: {_held(engine)}; every block should be free"
                )
            self.turn_tokens[run.name] = {key: turn.generated for key, turn in replay.turns.items()}
            return self._figures(run, engine, replay, over_time)

    def _figures(self, run: RunSpec, engine: Engine, replay: Replay, over_time: KVOverTime) -> dict[str, Any]:
        turns = [replay.turns[key] for key in sorted(replay.turns)]
        num_generated = sum(len(turn.generated) for turn in turns)
        self.samples[run.name] = latency_samples(turns)
        return {
            "name": run.name,
            **{metric: tail(seconds) for metric, seconds in self.samples[run.name].items()},
            "tokens_per_s": num_generated / replay.seconds,
            "seconds": replay.seconds,
            "iterations": engine.executed_iterations,
            "switches": engine.counts.as_json(engine.stall_s),
            "memory": {
                "device_blocks": self.spec.device_blocks,
                "host_blocks": self.spec.host_blocks,
                "block_bytes": self.spec.layout.block_bytes,
                **over_time.as_json(),
                "given_up": asdict(engine.kv.statistics().given_up),
            },
            "tokens_sha256": tokens_sha256(replay.turns),
        }


def _held(engine: Engine) -> dict[str, int]:
    """Blocks held on each tier."""
    tiers = {"device": engine.kv.device, "host": engine.kv.host}
    return {name: tier.allocator.num_blocks - tier.num_free for name, tier in tiers.items()}


def _speedups(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The paper's system and ours, each over every run that stands above it in ``RUNS``, in whatever order they ran."""
    by_name = {result["name"]: result for result in results}
    rows = [name for name in RUNS if name in by_name]
    found = {}
    for position, name in enumerate(rows):
        if name in ("paper", "fastswitch"):
            found.update({f"{name}/{base}": speedup(by_name[name], by_name[base]) for base in rows[:position]})
    return found

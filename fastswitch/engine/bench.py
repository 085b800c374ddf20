"""One experiment: a workload served by each run, on the same pools, with the same policy and arrivals.

Ours. What it returns is the JSON contract of docs/design.md as a dict; ``report`` and ``plots`` draw it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastswitch.engine.checks import check_engine
from fastswitch.engine.engine import Engine
from fastswitch.engine.environment import environment
from fastswitch.engine.measure import Speeds, default_link, measure_speeds, raw_copy_ms
from fastswitch.engine.metrics import latency_samples, speedup, tail, tokens_sha256
from fastswitch.engine.model_executor import kv_layout
from fastswitch.engine.models import LoadedModel, load_model
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import EngineSpec, RunSpec, build_engine, choose_runs
from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import ArrivalPlan, Workload, plan_arrivals, read_workload, select, synthetic_workload
from fastswitch.memory import KVLayout
from fastswitch.sched import (
    FCFS,
    MarkovPriorities,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    SwapOut,
)

__all__ = ["Experiment", "prepare"]

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

    def same_tokens(self) -> bool:
        """Whether all finished runs gave the same tokens."""
        return len({result["tokens_sha256"] for result in self.results}) <= 1

    def _work_s(self) -> float:
        return self.speeds.work_s(self.workload)

    def _run(self, run: RunSpec, progress: Progress | None) -> dict[str, Any]:
        gc.collect()
        with build_engine(self.spec, run) as engine:
            peaks = _held(engine)

            def after_step(turns_ended: int) -> None:
                for tier, held in _held(engine).items():
                    peaks[tier] = max(peaks[tier], held)
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
            return self._figures(run, engine, replay, peaks)

    def _figures(self, run: RunSpec, engine: Engine, replay: Replay, peaks: Mapping[str, int]) -> dict[str, Any]:
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
                "peak_device_blocks": peaks["device"],
                "peak_host_blocks": peaks["host"],
            },
            "tokens_sha256": tokens_sha256(replay.turns),
        }


def prepare(options: BenchOptions) -> Experiment:
    """Load, choose, measure and plan; everything that can be refused is refused here.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
        RefusedModelError: the model is.
    """
    runs = choose_runs(options.runs)
    for path in (options.json, options.plot):
        _check_writable(path)
    model = load_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        random_weights=options.random_weights,
        seed=options.seed,
    )
    workload = load_workload(options, model)
    layout = kv_layout(model.model, options.block_size, "block_major")
    if workload.max_context > model.max_context:
        raise UsageError(
            f"the longest conversation has {workload.max_context} tokens, model {model.name} has {model.max_context} "
            "positions: lower --scale"
        )
    device_blocks, host_blocks = _pools(options, layout, workload)
    speeds = measure_speeds(model, layout, workload)
    link = default_link(speeds, layout, options.call_us, options.link_gbps) if options.emulates_link else None
    plan = plan_arrivals(
        workload,
        rate=options.rate,
        arrival=options.arrival,
        think_s=options.think,
        time_scale=options.time_scale,
        work_s=speeds.work_s(workload),
        seed=options.seed,
    )
    spec = EngineSpec(
        model=model,
        layout=layout,
        device_blocks=device_blocks,
        host_blocks=host_blocks,
        growth_blocks=options.growth_blocks,
        link=link,
        ranker=lambda: _ranker(options),
        packer=lambda: PrefillFirst(options.token_budget),
        evictor=SwapOut if options.evictor == "swap-out" else Recompute,
        check=options.check,
    )
    return Experiment(options, model, workload, plan, speeds, spec, runs, raw_copy_ms(layout, model.model.device))


def load_workload(options: BenchOptions, model: LoadedModel) -> Workload:
    """The workload that the options name, chosen and scaled."""
    if options.workload == "synthetic":
        drawn = synthetic_workload(
            seed=options.seed, conversations=options.conversations or 24, min_turns=options.min_turns or 3
        )
        return select(drawn, scale=0.05 if options.scale is None else options.scale, seed=options.seed)
    read = read_workload(Path(options.workload), encode=model.encode, seed=options.seed)
    return select(
        read,
        conversations=options.conversations,
        min_turns=options.min_turns,
        scale=1.0 if options.scale is None else options.scale,
        seed=options.seed,
    )


def _pools(options: BenchOptions, layout: KVLayout, workload: Workload) -> tuple[int, int]:
    """Device and host blocks: as asked, or so few that requests must be switched."""
    longest = layout.blocks_for(workload.max_context)
    if options.device_tokens is None:
        demand = workload.peak_demand_blocks(layout.block_size)
        device = max(layout.blocks_for(-(-workload.max_context * 5 // 4)), round(0.4 * demand))
    else:
        device = options.device_tokens // layout.block_size
    if device < longest:
        raise UsageError(
            f"--device-tokens {options.device_tokens} holds {device} blocks of {layout.block_size}, the longest "
            f"conversation ({workload.max_context} tokens) needs {longest}: give at least {longest * layout.block_size}"
        )
    host = 8 * device if options.host_tokens is None else options.host_tokens // layout.block_size
    if host < 1:
        raise UsageError(f"--host-tokens {options.host_tokens} is less than one block of {layout.block_size} tokens")
    return device, host


def _held(engine: Engine) -> dict[str, int]:
    """Blocks held on each tier."""
    tiers = {"device": engine.kv.device, "host": engine.kv.host}
    return {name: tier.allocator.num_blocks - tier.num_free for name, tier in tiers.items()}


def _ranker(options: BenchOptions) -> Ranker:
    if options.policy == "fcfs":
        return FCFS()
    pattern = RandomPriorities if options.priority == "random" else MarkovPriorities
    return PriorityTrace(pattern(options.seed), options.frequency)


def _speedups(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Each of the paper's system and ours over every run before it."""
    found = {}
    for position, run in enumerate(results):
        if run["name"] in ("paper", "fastswitch"):
            found.update({f"{run['name']}/{base['name']}": speedup(run, base) for base in results[:position]})
    return found


def _check_writable(path: Path | None) -> None:
    """Refuse an output that cannot be written, before any work is done."""
    if path is None:
        return
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another path") from error
    if not existed:
        path.unlink()

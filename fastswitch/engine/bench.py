"""From options to an experiment on a model: load, choose, warm up, measure and plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from fastswitch.engine.experiment import Experiment
from fastswitch.engine.measure import default_link, measure_speeds, per_block_call_us, raw_copy_ms
from fastswitch.engine.measure_iterations import batch_timer, blocks_of
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.model_executor import kv_layout
from fastswitch.engine.models import LoadedModel, load_model
from fastswitch.engine.options import DEFAULT_FREQUENCY, BenchOptions
from fastswitch.engine.policy import Policy
from fastswitch.engine.runs import RUNS, RunSpec, choose_runs, why_no_run
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.tbt_target import MOST_TOKENS, LongestIterations, derive_budget
from fastswitch.engine.usage import UsageError, check_writable
from fastswitch.engine.warm_up import warm_up
from fastswitch.engine.workload_choice import ChosenWorkload, choose_workload
from fastswitch.engine.workloads import Workload, plan_arrivals
from fastswitch.memory import KVLayout

__all__ = ["prepare"]

CONVERSATIONS, SCALE = 24, 0.05  # of a synthetic workload: what a tiny model serves in a minute


def prepare(options: BenchOptions) -> tuple[Experiment, ModelBed]:
    """Load, choose, measure and plan; everything that can be refused is refused here.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
        RefusedModelError: the model is.
    """
    reasons = {name: why_no_run(run, options.device) for name, run in RUNS.items()}
    runs = choose_runs(options.runs, RUNS, lambda run: reasons[run.name])
    for path in options.outputs:
        check_writable(path)
    policy = options.policy_with(DEFAULT_FREQUENCY)
    model = load_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        random_weights=options.random_weights,
        seed=options.seed,
    )
    chosen = _choose(options, policy, model)
    workload, layout = chosen.workload, kv_layout(model.model, options.block_size, "block_major")
    device_blocks, host_blocks = _pools(options, layout, workload)
    _warm_up(model, layout, runs, workload, policy.token_budget if options.tbt_target is None else MOST_TOKENS)
    speeds, on = measure_speeds(model, layout, workload), model.model.device
    policy = replace(policy, profile=speeds, weights=chosen.weights)
    spec = EngineSpec(
        layout=layout,
        device_blocks=device_blocks,
        host_blocks=host_blocks,
        growth_blocks=options.growth_blocks,
        policy=_within_target(options, policy, model, layout, workload, device_blocks),
        check=options.check,
    )
    link = default_link(speeds, layout, options.call_us, options.link_gbps) if options.emulates_link else None
    bed = ModelBed(model, spec, link, speeds, raw_copy_ms(layout, on), per_block_call_us(layout, on))
    plan = plan_arrivals(
        workload,
        rate=options.rate,
        arrival=options.arrival,
        think_s=options.think,
        time_scale=options.time_scale,
        work_s=speeds.work_s(workload),
        seed=options.seed,
    )
    return Experiment.asked_for(options, bed, workload, plan, runs, reasons), bed


def _choose(options: BenchOptions, policy: Policy, model: LoadedModel) -> ChosenWorkload:
    chosen = choose_workload(options, model.encode, conversations=CONVERSATIONS, scale=SCALE)
    policy.check_conversations(len(chosen.workload))
    longest = chosen.workload.max_context
    if longest > model.max_context:
        raise UsageError(
            f"the longest conversation has {longest} tokens, model {model.name} has {model.max_context} positions: "
            "lower --scale"
        )
    return chosen


def _warm_up(
    model: LoadedModel, layout: KVLayout, runs: Sequence[RunSpec], workload: Workload, token_budget: int
) -> None:
    """Compile what the runs will run, in both orders of their pools."""
    budget = min(token_budget, workload.input_tokens)
    for order in dict.fromkeys(run.order for run in runs):
        ways = [run.way for run in runs if run.order == order and run.way is not None]
        warm_up(model, replace(layout, order=order), ways, max_context=workload.max_context, token_budget=budget)


def _within_target(
    options: BenchOptions,
    policy: Policy,
    model: LoadedModel,
    layout: KVLayout,
    workload: Workload,
    device_blocks: int,
) -> Policy:
    if options.tbt_target is None:
        return policy
    batches = LongestIterations.of(workload, device_blocks * layout.block_size)
    most = max(MOST_TOKENS, batches.least_tokens)
    seconds = batch_timer(model, layout, blocks_of(layout, batches.batches(most)))
    return policy.within(*derive_budget(options.tbt_target, batches, seconds, timed_by="measured", most=most))


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
        raise UsageError(
            f"--host-tokens {options.host_tokens} is less than one block: give at least its {layout.block_size} tokens"
        )
    _check_memory(layout, device, host, on_gpu=options.device == "cuda")
    return device, host


def _check_memory(layout: KVLayout, device_blocks: int, host_blocks: int, *, on_gpu: bool) -> None:
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = (host_blocks if on_gpu else device_blocks + host_blocks) * layout.block_bytes
    if need > have:
        raise UsageError(
            f"the pools need {need / 1e9:.1f} GB of memory, this machine has {have / 1e9:.1f}: lower --device-tokens "
            "or --host-tokens"
        )

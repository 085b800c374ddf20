"""From options to a simulated experiment; everything that can be refused is refused here."""

from __future__ import annotations

import json
from dataclasses import replace

from fastswitch.engine.experiment import Experiment
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.policy import Policy
from fastswitch.engine.runs import FREE, SIMULATED_RUNS, RunSpec, choose_runs
from fastswitch.engine.simulator.copy_costs import CalibratedCosts
from fastswitch.engine.simulator.roofline import Roofline
from fastswitch.engine.simulator.setup import Assumptions, Setup, find_setup
from fastswitch.engine.simulator.simulated_bed import SimulatedBed, profile_of
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.tbt_target import LongestIterations, derive_budget
from fastswitch.engine.usage import UsageError, check_writable
from fastswitch.engine.workload_choice import choose_workload
from fastswitch.engine.workloads import ArrivalPlan, Workload, plan_as_recorded
from fastswitch.kernels import TransferCosts

__all__ = ["prepare_simulation", "stand_in_tokens"]

CONVERSATIONS = 200  # synthetic ones
BYTES_PER_TOKEN = 4  # of text: about what tokenizers make of English


def prepare_simulation(options: SimulateOptions) -> Experiment:
    """Find the setup, read and choose the workload, plan the arrivals.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
    """
    setup = find_setup(options.setup)
    policy = options.policy_with(setup.frequency)
    for path in options.outputs:
        check_writable(path)
    assumed = _assumptions(options)
    link = _link(options, setup, assumed)
    reasons = {name: _why_no_run(run, link) for name, run in SIMULATED_RUNS.items()}
    runs = choose_runs(options.runs, SIMULATED_RUNS, lambda run: reasons[run.name])
    chosen = choose_workload(options, stand_in_tokens, conversations=CONVERSATIONS, scale=1.0)
    workload = chosen.workload
    policy.check_conversations(len(workload))
    device_blocks, host_blocks = _pools(options, setup, workload)
    roofline = setup.roofline(assumed)
    policy = replace(policy, profile=profile_of(roofline, workload), weights=chosen.weights)
    spec = EngineSpec(
        layout=setup.model.kv_layout(options.block_size),
        device_blocks=device_blocks,
        host_blocks=host_blocks,
        growth_blocks=options.growth_blocks,
        policy=_within_target(options, policy, roofline, workload, device_blocks),
        check=options.check,
    )
    bed = SimulatedBed.of(setup, assumed, spec, link)
    return Experiment.asked_for(options, bed, workload, _plan(options, workload), runs, reasons)


def _within_target(
    options: SimulateOptions, policy: Policy, roofline: Roofline, workload: Workload, device_blocks: int
) -> Policy:
    if options.tbt_target is None:
        return policy
    batches = LongestIterations.of(workload, device_blocks * options.block_size)
    return policy.within(*derive_budget(options.tbt_target, batches, roofline.seconds, timed_by="roofline"))


def _assumptions(options: SimulateOptions) -> Assumptions:
    asked = {
        "compute_share": options.compute_share,
        "memory_share": options.memory_share,
        "link_share": options.link_share,
        "iteration_ms": options.iteration_ms,
        "decision_us": options.decision_us,
        "call_us": options.call_us,
    }
    return Assumptions(**{name: value for name, value in asked.items() if value is not None})


def stand_in_tokens(text: str) -> list[int]:
    """As many tokens as the text has, about; which ones does not matter."""
    return list(text.encode()[::BYTES_PER_TOKEN])


def _plan(options: SimulateOptions, workload: Workload) -> ArrivalPlan:
    return plan_as_recorded(
        workload,
        rate=options.rate,
        arrival=options.arrival,
        think_s=options.think,
        time_scale=options.time_scale,
        seed=options.seed,
    )


def _pools(options: SimulateOptions, setup: Setup, workload: Workload) -> tuple[int, int]:
    size = options.block_size
    device_tokens = setup.device_tokens if options.device_tokens is None else options.device_tokens
    host_tokens = setup.host_tokens if options.host_tokens is None else options.host_tokens
    longest = -(-workload.max_context // size)
    if device_tokens // size < longest:
        raise UsageError(
            f"the device pool of {device_tokens} tokens holds {device_tokens // size} blocks of {size}, the longest "
            f"conversation ({workload.max_context} tokens) needs {longest}: give --device-tokens at least "
            f"{longest * size}, or lower --scale"
        )
    if host_tokens < size:
        raise UsageError(f"--host-tokens {host_tokens} is less than one block: give at least its {size} tokens")
    return device_tokens // size, host_tokens // size


def _why_no_run(run: RunSpec, link: EmulatedLink | TransferCosts) -> str | None:
    """Why a run cannot be simulated with these costs; None if it can."""
    if isinstance(link, EmulatedLink) or run.way is None or run.way == FREE:
        return None
    return CalibratedCosts.why_not(link, run.way)


def _link(options: SimulateOptions, setup: Setup, assumed: Assumptions) -> EmulatedLink | TransferCosts:
    if options.calibration is None:
        return setup.link(assumed, options.link_gbps)
    try:
        return TransferCosts.from_json(json.loads(options.calibration.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read {options.calibration}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(f"{options.calibration} is not what fastswitch calibrate --json writes: {error}") from None

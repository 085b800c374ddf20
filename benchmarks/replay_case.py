"""A run of ``reuse_replay``: the engine, scheduler and memory manager as they are, on declared time; and its targets.

Executor, swaps and clock are the simulator's, for Llama-3-8B on an A10 with its declared assumptions: a run of blocks
crosses in one copy, on the engine's thread. Block counts are exact for the schedule that these times make; the times
are declared, not measured. Figures made before the simulator's roofline was used left out the attention's FLOPs and
counted the output head for every token, so they are a little different.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastswitch.engine import Engine
from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.simulator import Assumptions, LinkCosts, RooflineExecutor, VirtualInlineSwaps, find_setup
from fastswitch.engine.workloads import ArrivalPlan, Workload
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, SwapDirection

__all__ = ["ASSUMPTIONS", "Case", "column", "ratio", "serve", "targets"]

SETUP, ASSUMED = find_setup("llama8b-a10"), Assumptions()
SATURATED = 1.5  # open turns of the arrivals' last quarter over those of the second: beyond, queues grow
LEAST_SAVED = 0.5  # of the blocks swapped out, where the host has room
ASSUMPTIONS = {"setup": SETUP.as_json(), **asdict(ASSUMED)}

Figure = Callable[[Mapping[str, Any]], float]  # of a run


@dataclass(frozen=True, slots=True)
class Case:
    """One run: its options with its own host pool, and whether host copies are kept."""

    options: BenchOptions
    host_tokens: int
    reuse: bool
    headroom: float

    @property
    def name(self) -> str:
        return f"{self.host_tokens} {'reuse' if self.reuse else 'no reuse'}"


def serve(case: Case, workload: Workload, plan: ArrivalPlan) -> dict[str, Any]:
    """The case's figures; the same for the same arguments."""
    options, clock = case.options, VirtualClock()
    layout = SETUP.model.kv_layout(options.block_size)
    device_blocks = (options.device_tokens or 0) // options.block_size
    device, host = (
        BlockGroupAllocator(num_blocks, growth_blocks=options.growth_blocks)
        for num_blocks in (device_blocks, case.host_tokens // options.block_size)
    )
    kv = KVCacheManager(device, host, options.block_size, reuse=case.reuse, headroom=case.headroom)
    scheduler = options.policy_with(SETUP.frequency).scheduler(copies=True)
    max_context = device_blocks * options.block_size
    executor = RooflineExecutor(SETUP.roofline(ASSUMED), clock, max_context=max_context)
    swaps = VirtualInlineSwaps(clock, LinkCosts(SETUP.link(ASSUMED), layout, "per_run"), layout.block_bytes)
    engine = Engine(executor, scheduler, kv, swaps, clock=clock)
    least_free = [kv.host.num_free]

    def after_step(_turns_ended: int) -> None:
        least_free[0] = min(least_free[0], kv.host.num_free)

    def prompt(conversation: int, turn: int) -> Sequence[int]:
        return range(workload.conversations[conversation].turns[turn].input_tokens)

    replay = Replay(engine, workload, plan, prompt, after_step)
    replay.run()
    for tier in (kv.device, kv.host):
        tier.check_invariants()
        held = tier.allocator.num_blocks - tier.num_free
        if held:
            raise RuntimeError(f"{case.name} ended with {held} blocks held; every block should be free")
    return {
        "name": case.name,
        "host_tokens": case.host_tokens,
        "reuse": case.reuse,
        "host_blocks": kv.host.allocator.num_blocks,
        "peak_host_blocks": kv.host.allocator.num_blocks - least_free[0],
        "iterations": engine.executed_iterations,
        "seconds": replay.seconds,
        "switches": switches(engine),
        "load": load(replay, plan),
    }


def switches(engine: Engine) -> dict[str, Any]:
    """What the switches moved, and in how many runs each way."""
    runs = {way: sum(report.job.num_runs for report in engine.counts.of(way)) for way in SwapDirection}
    figures = engine.counts.as_json(engine.stall_s)
    return {**figures, "runs_out": runs[SwapDirection.SWAP_OUT], "runs_in": runs[SwapDirection.SWAP_IN]}


def load(replay: Replay, plan: ArrivalPlan) -> dict[str, Any]:
    """How long turns waited, and how many were open (arrived, not answered in full) while conversations started."""
    turns = list(replay.turns.values())
    last_start_s = plan.last_start_s

    def open_turns(start_s: float, end_s: float) -> float:
        lives = [min(end_s, turn.token_times[-1]) - max(start_s, turn.arrival) for turn in turns]
        return sum(max(0.0, seconds) for seconds in lives) / (end_s - start_s) if end_s > start_s else 0.0

    early, late = (open_turns(q * last_start_s, (q + 0.25) * last_start_s) for q in (0.25, 0.75))
    ends_s = [replay.turns[i, len(each.turns) - 1].token_times[-1] for i, each in enumerate(plan.conversations)]
    return {
        "mean_ttft_s": sum(turn.token_times[0] - turn.arrival for turn in turns) / len(turns),
        "open_turns_second_quarter": early,
        "open_turns_last_quarter": late,
        "conversations_at_last_start": sum(end_s > last_start_s for end_s in ends_s),
        "saturated": late > max(SATURATED * early, early + 1),  # a turn more or less is chance
    }


def targets(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What reuse is to reach with the largest host pool, and with each smaller one; with the figures."""
    bare = {run["host_tokens"]: run for run in runs if not run["reuse"]}
    found = []

    def enter(run: Mapping[str, Any], text: str, figure: Figure, meets: Callable[[float, float], bool]) -> None:
        reuse, none = figure(run), figure(bare[run["host_tokens"]])
        verdict = {"target": text, "reuse": reuse, "no_reuse": none, "met": meets(reuse, none)}
        found.append({"host_tokens": run["host_tokens"], **verdict})

    for run in runs:
        if run["reuse"] and run["host_tokens"] == max(bare):
            text = f"at least {LEAST_SAVED:.0%} fewer blocks swapped out"
            enter(run, text, blocks_out, lambda reuse, none: reuse <= (1 - LEAST_SAVED) * none)
        elif run["reuse"]:
            enter(run, "fewer bytes moved", moved_bytes, operator.lt)
            enter(run, "not more runs a swap", runs_per_swap, operator.le)
    return found


def column(run: Mapping[str, Any], none: Mapping[str, Any], wall_s: float) -> dict[str, str]:
    """A run's column of the table; ``none`` is the run without reuse on the same pools."""
    counted, waited = run["switches"], run["load"]
    return {
        "blocks out": f"{counted['blocks_out']}",
        "blocks in": f"{counted['blocks_in']}",
        "bytes / no reuse": f"{ratio(moved_bytes(run), moved_bytes(none)):.3f}",
        "swap-outs": f"{counted['swap_outs']}",
        "swap-ins": f"{counted['swap_ins']}",
        "runs / swap-out": f"{ratio(counted['runs_out'], counted['swap_outs']):.2f}",
        "runs / swap-in": f"{ratio(counted['runs_in'], counted['swap_ins']):.2f}",
        "runs / swap": f"{runs_per_swap(run):.2f}",
        "blocks / run": f"{counted['blocks_per_copy'] or 0:.2f}",
        "clean evictions": f"{counted['clean_evictions']}",
        "drops": f"{counted['drops']}",
        "recomputed tokens": f"{counted['recomputed_tokens']}",
        "reused tokens": f"{counted['reused_tokens']}",
        "host blocks, peak": f"{ratio(run['peak_host_blocks'], run['host_blocks']):.0%}",
        "iterations": f"{run['iterations']}",
        "mean TTFT, s": f"{waited['mean_ttft_s']:.2f}",
        "stall, s": f"{counted['stall_s']:.0f}",
        "virtual s": f"{run['seconds']:.0f}",
        "wall s": f"{wall_s:.0f}",
    }


def blocks_out(run: Mapping[str, Any]) -> int:
    return int(run["switches"]["blocks_out"])


def moved_bytes(run: Mapping[str, Any]) -> int:
    return int(run["switches"]["bytes_out"] + run["switches"]["bytes_in"])


def runs_per_swap(run: Mapping[str, Any]) -> float:
    return ratio(run["switches"]["runs"], run["switches"]["swap_outs"] + run["switches"]["swap_ins"])


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

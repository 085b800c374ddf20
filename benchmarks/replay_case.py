"""A run of ``reuse_replay``: the engine, scheduler and memory manager as they are, on declared time; and its targets.

The executor returns a forced token and lets time pass; a swap moves nothing, lands at once and lets its link time pass.
Block counts are exact for the schedule that these times make; the times are declared, not measured.

Assumptions: Llama-3-8B in 16 bits on an A10-like card. An iteration takes 3 ms + the longer of computing (2 FLOP a
parameter and token, at 60 % of 125 TFLOP/s) and reading (the weights once and the batch's KV, at 80 % of 600 GB/s);
attention's FLOPs are left out. A run of blocks crosses in 10 us or its bytes / (80 % of 32 GB/s), the longer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from fastswitch.engine import BatchEntry, EmulatedLink, Engine, SwapReport
from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.replay import Replay
from fastswitch.engine.workloads import ArrivalPlan, Workload
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, SwapDirection, SwapJob
from fastswitch.sched import (
    MarkovPriorities,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Scheduler,
    SwapOut,
    TokenAccountant,
)

__all__ = ["ASSUMPTIONS", "Case", "column", "ratio", "serve", "targets"]

PARAMETERS = 8.03e9
WEIGHT_BYTES = 2 * PARAMETERS
KV_TOKEN_BYTES = 131_072  # 32 layers x K and V x 8 heads x 128 x 2 bytes
FLOPS = 0.6 * 125e12
BYTES_PER_S = 0.8 * 600e9
ITERATION_S = 3e-3
LINK = EmulatedLink(call_us=10.0, gbps=0.8 * 32)
SATURATED = 1.5  # open turns of the arrivals' last quarter over those of the second: beyond, queues grow
LEAST_SAVED = 0.5  # of the blocks swapped out, where the host has room
ASSUMPTIONS = {
    "parameters": PARAMETERS,
    "kv_token_bytes": KV_TOKEN_BYTES,
    "flops": FLOPS,
    "bytes_per_s": BYTES_PER_S,
    "iteration_s": ITERATION_S,
    "link_gbps": LINK.gbps,
    "call_us": LINK.call_us,
}

Figure = Callable[[Mapping[str, Any]], float]  # of a run


class ForcedExecutor:
    """Satisfies ``Executor``: token 0 for everyone, and the declared time passes."""

    vocab_size = 128_256

    def __init__(self, clock: VirtualClock, max_context: int) -> None:
        self.max_context = max_context
        self._clock = clock

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        num_tokens = sum(len(entry.token_ids) for entry in batch)
        context = num_tokens + sum(entry.start for entry in batch)
        computing_s = 2 * PARAMETERS * num_tokens / FLOPS
        reading_s = (WEIGHT_BYTES + KV_TOKEN_BYTES * context) / BYTES_PER_S
        self._clock.sleep(ITERATION_S + max(computing_s, reading_s))
        return [0 if entry.samples else None for entry in batch]


class ImmediateSwaps:
    """Satisfies ``Swaps``: moves nothing, has landed when ``submit`` returns; its link time passes and is stall."""

    def __init__(self, clock: VirtualClock, block_size: int) -> None:
        self.stall_s = 0.0
        self._clock = clock
        self._block_bytes = block_size * KV_TOKEN_BYTES
        self._landed: list[SwapReport] = []

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        seconds = LINK.cost_s("per_run", job.runs, pieces_per_block=1, piece_bytes=self._block_bytes)
        self._clock.sleep(seconds)
        self.stall_s += seconds
        num_bytes = job.num_blocks * self._block_bytes
        self._landed.append(SwapReport(job, "none", num_bytes, copies=job.num_runs, calls=job.num_runs))
        future: Future[SwapReport] = Future()
        future.set_result(self._landed[-1])
        return future

    def landed(self) -> list[SwapReport]:
        landed, self._landed = self._landed, []
        return landed

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        pass

    def wait_any(self, timeout_s: float | None) -> None:
        pass

    def close(self) -> None:
        pass


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
    block_size, device_blocks = options.block_size, (options.device_tokens or 0) // options.block_size
    device, host = (
        BlockGroupAllocator(num_blocks, growth_blocks=options.growth_blocks)
        for num_blocks in (device_blocks, case.host_tokens // block_size)
    )
    kv = KVCacheManager(device, host, block_size, reuse=case.reuse, headroom=case.headroom)
    pattern = (RandomPriorities if options.priority == "random" else MarkovPriorities)(options.seed)
    ranker = PriorityTrace(pattern, options.frequency)
    scheduler = Scheduler(ranker, PrefillFirst(options.token_budget), SwapOut(), TokenAccountant())
    executor = ForcedExecutor(clock, max_context=device_blocks * block_size)
    engine = Engine(executor, scheduler, kv, ImmediateSwaps(clock, block_size), clock=clock)
    least_free = [kv.host.num_free]

    def after_step(_turns_ended: int) -> None:
        least_free[0] = min(least_free[0], kv.host.num_free)

    def prompt(conversation: int, turn: int) -> Sequence[int]:
        return workload.prompt_tokens(conversation, turn, executor.vocab_size)

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

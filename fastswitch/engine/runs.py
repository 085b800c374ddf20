"""The runs that are compared: each is one engine, built from the parts that its row names.

Ours. All share ranker, packer, budget, pools and workload. ``+async``, ``paper`` and ``fastswitch`` each change the row
above by one idea.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fastswitch.engine.adaptive import AdaptiveSwap
from fastswitch.engine.checks import PoisoningAllocator
from fastswitch.engine.clock import RealClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.swap import SwapCoordinator
from fastswitch.engine.usage import UsageError
from fastswitch.engine.ways import CHOSEN
from fastswitch.kernels import why_not
from fastswitch.memory import BlockAllocator, BlockGroupAllocator, KVCacheManager, KVLayout, PagedAllocator
from fastswitch.memory.pool import KVPool
from fastswitch.sched import Evictor, Packer, Ranker, Recompute, Scheduler, TokenAccountant

__all__ = ["RUNS", "EngineSpec", "RunSpec", "build_engine", "choose_runs", "why_no_run"]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One row of the comparison.

    Attributes:
        name: its name in tables and JSON.
        allocator: ``paged`` or ``groups``, on both tiers.
        order: of the pools, ``block_major`` or ``layer_major``.
        way: how bytes cross, ``chosen`` for each job; None where nothing is copied and victims are recomputed.
        asynchronous: copies run on the coordinator's threads, swap-ins overlap or are waited for; else on the engine's.
        reuse: host copies are kept.
        idea: what the row stands for, in a few words.
    """

    name: str
    allocator: str
    order: str
    way: str | None
    asynchronous: bool
    reuse: bool
    idea: str


RUNS = {
    spec.name: spec
    for spec in (
        RunSpec("recompute", "paged", "block_major", None, False, False, "drop victims and recompute: vLLM v1, SGLang"),
        RunSpec("vllm_0_3", "paged", "layer_major", "per_block", False, False, "swap block by block, layer by layer"),
        RunSpec("cross_layer", "paged", "block_major", "per_block", False, False, "all layers of a block in one piece"),
        RunSpec("modern", "paged", "block_major", "batched", True, True, "and one batch a job, on threads, copy kept"),
        RunSpec("+groups", "groups", "layer_major", "per_run", False, False, "block groups: one copy a run and layer"),
        RunSpec("+async", "groups", "layer_major", "per_run", True, False, "and copies on threads of their own"),
        RunSpec("paper", "groups", "layer_major", "per_run", True, True, "and host copies kept: the paper's system"),
        RunSpec("fastswitch", "groups", "block_major", "chosen", True, True, "and whole blocks, each job its best way"),
    )
}


def choose_runs(names: str | None, device: str = "cpu") -> list[RunSpec]:
    """The rows named in a comma-separated list, in its order; for None all that this machine can make.

    Raises:
        UsageError: if a name is unknown, none is given, or one that is named needs what is not there.
    """
    if names is None:
        return [run for run in RUNS.values() if why_no_run(run, device) is None]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in RUNS]
    if unknown or not wanted:
        raise UsageError(f"unknown run {', '.join(unknown) or names!r}: known are {', '.join(RUNS)}")
    runs = [RUNS[name] for name in dict.fromkeys(wanted)]
    for run in runs:
        reason = why_no_run(run, device)
        if reason is not None:
            raise UsageError(f"run {run.name}: {reason}")
    return runs


def why_no_run(run: RunSpec, device: str) -> str | None:
    """Why a run cannot be made with pools on ``device``, with the way out; None if it can."""
    return None if run.way in (None, CHOSEN) else why_not(run.way, device)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What all runs of a comparison share.

    Attributes:
        model: the model.
        layout: of the pools; a run sets its order.
        device_blocks, host_blocks: the pools.
        growth_blocks: of the block groups.
        link: emulated; None where the link is real.
        ranker: makes a fresh ranker.
        packer: makes a fresh packer.
        evictor: makes a fresh evictor, for the runs that copy.
        check: poison freed blocks and check invariants at each step.
    """

    model: LoadedModel
    layout: KVLayout
    device_blocks: int
    host_blocks: int
    growth_blocks: int
    link: EmulatedLink | None
    ranker: Callable[[], Ranker]
    packer: Callable[[], Packer]
    evictor: Callable[[], Evictor]
    check: bool


@contextmanager
def build_engine(spec: EngineSpec, run: RunSpec) -> Iterator[Engine]:
    """A fresh engine for one run; its threads end with the context."""
    layout = replace(spec.layout, order=run.order)
    device = spec.model.model.device
    device_pool = KVPool(layout, spec.device_blocks, device)
    host_pool = KVPool(layout, spec.host_blocks, pinned=device.type == "cuda")
    kv = KVCacheManager(
        _allocator(spec, run, device_pool), _allocator(spec, run, host_pool), layout.block_size, reuse=run.reuse
    )
    clock = RealClock()
    swaps_class = SwapCoordinator if run.asynchronous else InlineSwaps
    swaps = swaps_class(device_pool, host_pool, transfer=run.way or "per_run", link=spec.link, clock=clock)
    evictor = spec.evictor() if run.way else Recompute()
    scheduler = Scheduler(spec.ranker(), spec.packer(), evictor, TokenAccountant())
    adaptive = AdaptiveSwap() if run.asynchronous else None
    try:
        yield Engine(ModelExecutor(spec.model.model, device_pool), scheduler, kv, swaps, clock=clock, adaptive=adaptive)
    finally:
        swaps.close()


def _allocator(spec: EngineSpec, run: RunSpec, pool: KVPool) -> BlockAllocator:
    allocator: BlockAllocator
    if run.allocator == "paged":
        allocator = PagedAllocator(pool.num_blocks)
    else:
        allocator = BlockGroupAllocator(pool.num_blocks, growth_blocks=spec.growth_blocks)
    return PoisoningAllocator(allocator, pool) if spec.check else allocator

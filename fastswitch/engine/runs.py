"""The runs that are compared: each is one engine, built from the parts that its row names.

Ours. All share ranker, packer, budget, pools and workload. ``+async``, ``paper`` and ``fastswitch`` each change the row
above by one idea.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastswitch.engine.adaptive import AdaptiveSwap
from fastswitch.engine.swap_rule import SwapRule
from fastswitch.engine.usage import UsageError
from fastswitch.engine.ways import CHOSEN
from fastswitch.kernels import why_not

__all__ = ["FREE", "RUNS", "SIMULATED_RUNS", "RunSpec", "choose_runs", "why_no_run"]

FREE = "free"  # a way that takes no time


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
        ahead: what will probably have to move is copied while the link is idle.
        idea: what the row stands for, in a few words.
        rule: of asynchronous runs, makes what says whether a copy is overlapped or waited for.
    """

    name: str
    allocator: str
    order: str
    way: str | None
    asynchronous: bool
    reuse: bool
    idea: str
    ahead: bool = False
    rule: Callable[[], SwapRule] = AdaptiveSwap

    def swap_rule(self) -> SwapRule | None:
        """A fresh rule for one engine; None where copies are synchronous and there is nothing to choose."""
        return self.rule() if self.asynchronous else None


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
        RunSpec(
            "fastswitch+ahead", "groups", "block_major", "chosen", True, True, "and copies before they are needed", True
        ),
    )
}


# The limit: what is left of a tail when switches cost nothing is the policy's.
SIMULATED_RUNS = {
    **RUNS,
    "free_switch": RunSpec("free_switch", "groups", "block_major", FREE, False, True, "copies that cost nothing"),
}


def choose_runs(
    names: str | None, known: Mapping[str, RunSpec], why_not_here: Callable[[RunSpec], str | None] = lambda _run: None
) -> list[RunSpec]:
    """The rows named in a comma-separated list, in its order; for None all that can be made.

    Args:
        names: as on the command line.
        known: name |-> row.
        why_not_here: why a row cannot be made, with the way out; None if it can.

    Raises:
        UsageError: if a name is unknown or given twice, none is given, or one that is named needs what is not there.
    """
    if names is None:
        return [run for run in known.values() if why_not_here(run) is None]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageError(f"unknown run {', '.join(unknown) or names!r}: known are {', '.join(known)}")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"--runs must name each once, got {','.join(wanted)}")
    runs = [known[name] for name in wanted]
    for run in runs:
        reason = why_not_here(run)
        if reason is not None:
            raise UsageError(f"run {run.name}: {reason}")
    return runs


def why_no_run(run: RunSpec, device: str) -> str | None:
    """Why a run cannot be made with pools on ``device``, with the way out; None if it can."""
    return None if run.way in (None, CHOSEN) else why_not(run.way, device)

"""A model on this machine, with real pools and real copies; the link may be emulated."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fastswitch.engine.checks import PoisoningAllocator
from fastswitch.engine.clock import RealClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.environment import environment
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.measure import SWAP_TOKENS, Speeds
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.swap import SwapCoordinator
from fastswitch.engine.switch_costs import MeasuredCosts, RunningCosts
from fastswitch.engine.ways import CHOSEN
from fastswitch.engine.workloads import Workload
from fastswitch.memory.pool import KVPool

__all__ = ["ModelBed"]


@dataclass(frozen=True, slots=True)
class ModelBed:
    """Satisfies ``Testbed``.

    Attributes:
        model: the model.
        spec: what the runs share.
        link: emulated; None where the link is real.
        speeds: measured once; they set the load and the link.
        raw_copy_ms: what a swap's copies really cost here.
        per_block_call_us: what one call of ``per_block`` costs to issue on a GPU; None on a CPU.
    """

    model: LoadedModel
    spec: EngineSpec
    link: EmulatedLink | None
    speeds: Speeds
    raw_copy_ms: dict[str, float]
    per_block_call_us: float | None

    @contextmanager
    def engine(self, run: RunSpec) -> Iterator[Engine]:
        """A fresh engine for one run; its threads end with the context."""
        spec, device = self.spec, self.model.model.device
        layout = replace(spec.layout, order=run.order)
        device_pool = KVPool(layout, spec.device_blocks, device)
        host_pool = KVPool(layout, spec.host_blocks, pinned=device.type == "cuda")
        wraps = [partial(PoisoningAllocator, pool=pool) for pool in (device_pool, host_pool)] if spec.check else []
        kv = spec.manager(run, *wraps)
        if isinstance(kv.device.allocator, PoisoningAllocator):
            kv.device.allocator.spare(kv.still_read)
        clock = RealClock()
        swaps_class = SwapCoordinator if run.asynchronous else InlineSwaps
        swaps = swaps_class(device_pool, host_pool, transfer=run.way or "per_run", link=self.link, clock=clock)
        executor = ModelExecutor(self.model.model, device_pool)
        costs = RunningCosts(self.switch_costs(run))
        try:
            yield Engine(
                executor,
                spec.scheduler(run, costs),
                kv,
                swaps,
                clock=clock,
                adaptive=run.swap_rule(),
                copies_ahead=run.ahead,
                costs=costs,
            )
        finally:
            swaps.close()

    def switch_costs(self, run: RunSpec) -> MeasuredCosts:
        """In proportion to the swap and the prefill that were measured, and what the emulated link adds to copies."""
        layout = replace(self.spec.layout, order=run.order)
        measured = f"{run.order}/{'per_block' if run.way == 'per_block' else 'per_run'}"
        block_s = self.raw_copy_ms[measured] / 1e3 / layout.blocks_for(SWAP_TOKENS)
        way = "per_run" if run.way in (None, CHOSEN) else run.way
        assert way is not None

        @functools.cache
        def copy_s(num_blocks: int) -> float:
            if self.link is None:
                return block_s * num_blocks
            one_run = np.array([[0, 0, num_blocks]], np.int64)
            added_s = self.link.cost_s(way, one_run, layout.pieces_per_block, layout.piece_bytes)
            return block_s * num_blocks + added_s

        return MeasuredCosts(copy_s, copy_s, lambda num_tokens: num_tokens / self.speeds.prefill_tokens_per_s)

    def prompt_tokens(self, workload: Workload, conversation: int, turn: int) -> Sequence[int]:
        """The turn's text, or tokens drawn for it."""
        return workload.prompt_tokens(conversation, turn, self.model.vocab_size)

    def work_s(self, workload: Workload) -> float:
        """At the measured speeds."""
        return self.speeds.work_s(workload)

    def environment(self) -> Mapping[str, Any]:
        """Of the model's device."""
        return environment(self.model.model.device)

    def as_json(self) -> Mapping[str, Any]:
        """Model, link and what copies cost here."""
        layout, link = self.spec.layout, self.link
        return {
            "model": {"name": self.model.name, "dtype": layout.dtype, "kv_token_bytes": layout.token_bytes},
            "link": None if link is None else {"emulated": True, "call_us": link.call_us, "gbps": link.gbps},
            "raw_copy_ms": self.raw_copy_ms,
            "per_block_call_us": self.per_block_call_us,
        }

    def head(self) -> str:
        """Link and model."""
        if self.link is not None:
            linked = f"link emulated: {self.link.call_us:g} us a call, {self.link.gbps:.3g} GB/s"
        elif self.model.model.device.type == "cuda":
            linked = "link real"
        else:
            linked = "no link: copies within one memory"
        layout = self.spec.layout
        return f"{linked} | model {self.model.name} {layout.dtype}, {layout.token_bytes} B of KV a token"

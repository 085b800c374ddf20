"""A setup that exists as numbers alone: the engine's own scheduler, manager and step loop on a virtual clock.

Ours. Clock, executor and swaps are virtual, and nothing else is; so a simulated run takes the decisions that the engine
would take, and the same arguments always give the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.environment import environment
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.runs import FREE, RunSpec
from fastswitch.engine.simulator.charged_scheduler import ChargedScheduler
from fastswitch.engine.simulator.copy_costs import CalibratedCosts, CopyCosts, CopyWork, FreeCosts, LinkCosts, one_run_s
from fastswitch.engine.simulator.roofline import Roofline, RooflineExecutor, RooflineProfile
from fastswitch.engine.simulator.setup import Assumptions, Setup
from fastswitch.engine.simulator.virtual_swaps import VirtualInlineSwaps, VirtualSwaps
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.switch_costs import MeasuredCosts, RunningCosts
from fastswitch.engine.workloads import Workload
from fastswitch.kernels import TransferCosts
from fastswitch.memory import KVLayout, SwapDirection

__all__ = ["SimulatedBed", "profile_of"]

DECODE_BATCH = 8  # of the seconds of work, as where they are measured


@dataclass(frozen=True, slots=True)
class SimulatedBed:
    """Satisfies ``Testbed``; a value, so that a process of its own may serve a run.

    Attributes:
        title: what is simulated, for people.
        facts: of the JSON: the setup, with sources.
        assumed: what nobody states.
        spec: what the runs share.
        roofline: how long an iteration takes.
        link: how long a job's copies take: by a link's formulas, or as a machine was calibrated.
        copy_work: what comes on top of the link's formulas, if anything.
        noise: factors of the iterations' times, in order.
        decision_s: what a decision takes for each request that it looks at.
    """

    title: str
    facts: Mapping[str, Any]
    assumed: Mapping[str, Any]
    spec: EngineSpec
    roofline: Roofline
    link: EmulatedLink | TransferCosts
    copy_work: CopyWork | None = None
    noise: Sequence[float] = (1.0,)
    decision_s: float = 0.0

    @classmethod
    def of(
        cls, setup: Setup, assumed: Assumptions, spec: EngineSpec, link: EmulatedLink | TransferCosts
    ) -> SimulatedBed:
        """A setup by its data sheets."""
        title = f"{setup.model.title} on {setup.hardware.title}"
        unused = {"link_share", "call_us"} if isinstance(link, TransferCosts) else set()
        used = {name: value for name, value in asdict(assumed).items() if name not in unused}
        decision_s = assumed.decision_us * 1e-6
        return cls(title, setup.as_json(), used, spec, setup.roofline(assumed), link, decision_s=decision_s)

    @contextmanager
    def engine(self, run: RunSpec) -> Iterator[Engine]:
        """A fresh engine at second 0."""
        spec, clock = self.spec, VirtualClock()
        layout = replace(spec.layout, order=run.order)
        swaps_class = VirtualSwaps if run.asynchronous else VirtualInlineSwaps
        swaps = swaps_class(clock, self._costs(run, layout), layout.block_bytes)
        costs = RunningCosts(self.switch_costs(run))
        most = spec.device_blocks * layout.block_size
        executor = RooflineExecutor(self.roofline, clock, max_context=most, noise=self.noise)
        try:
            yield Engine(
                executor,
                ChargedScheduler(spec.scheduler(run, costs), clock, self.decision_s),
                spec.manager(run),
                swaps,
                clock=clock,
                adaptive=run.swap_rule(),
                copies_ahead=run.ahead,
                costs=costs,
            )
        finally:
            swaps.close()

    def prompt_tokens(self, workload: Workload, conversation: int, turn: int) -> Sequence[int]:
        """As many tokens as the turn has; which ones does not matter."""
        return range(workload.conversations[conversation].turns[turn].input_tokens)

    def work_s(self, workload: Workload) -> float:
        """By the roofline: a prompt of the mean input at a time, decodes by eight at the mean context."""
        mean_input = max(1, round(workload.input_tokens / workload.num_turns))
        profile = profile_of(self.roofline, workload)
        prefill_s, decode_s = profile.prefill_s(mean_input) / mean_input, profile.decode_s / DECODE_BATCH
        return workload.input_tokens * prefill_s + workload.output_tokens * decode_s

    def environment(self) -> Mapping[str, Any]:
        """Of the machine that simulates."""
        return environment(torch.device("cpu"))

    def as_json(self) -> Mapping[str, Any]:
        """What was simulated, from which numbers."""
        link = {"calibrated": self.link.as_json()} if isinstance(self.link, TransferCosts) else asdict(self.link)
        return {"simulated": True, "setup": dict(self.facts), "assumed": dict(self.assumed), "link": link}

    def head(self) -> str:
        """What was simulated, from which numbers."""
        flops, reads = self.roofline.flops / 1e12, self.roofline.bytes_per_s / 1e9
        besides = self.roofline.iteration_s * 1e3
        if isinstance(self.link, TransferCosts):
            linked = f"copies as calibrated on {self.link.machine.get('device', 'an unnamed device')}"
        else:
            linked = f"link {self.link.gbps:.3g} GB/s, {self.link.call_us:g} us a call"
        return (
            f"simulated, nothing was run: {self.title}, at {flops:.4g} TFLOP/s, {reads:.4g} GB/s, an iteration "
            f"{besides:g} ms besides | {linked}"
        )

    def switch_costs(self, run: RunSpec) -> MeasuredCosts:
        """By the formulas of link and roofline, for a request whose blocks lie in one run."""
        copy_costs = self._costs(run, replace(self.spec.layout, order=run.order))
        return MeasuredCosts(
            copy_out=one_run_s(copy_costs, SwapDirection.SWAP_OUT),
            copy_in=one_run_s(copy_costs, SwapDirection.SWAP_IN),
            prefill=lambda num_tokens: self.roofline.seconds([(0, num_tokens, True)]),
        )

    def _costs(self, run: RunSpec, layout: KVLayout) -> CopyCosts:
        if run.way in (None, FREE):
            return FreeCosts()
        assert run.way is not None
        if isinstance(self.link, TransferCosts):
            return CalibratedCosts(self.link, layout, run.way)
        return LinkCosts(self.link, layout, run.way, self.copy_work)


def profile_of(roofline: Roofline, workload: Workload) -> RooflineProfile:
    """By the roofline, at the workload's mean context."""
    mean_context = max(1, round((workload.input_tokens + workload.output_tokens) / len(workload) / 2))
    return RooflineProfile(roofline, mean_context, DECODE_BATCH)

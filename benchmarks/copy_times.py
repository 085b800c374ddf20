"""What a swap job takes on this machine besides its emulated cost: real copies, bookkeeping, the sleep's excess.

Ours. Jobs of several sizes, scattered and in one run, in the orders and by the ways of the runs that are compared, go
through the engine's own synchronous swaps; what they take beyond the link's formula is fitted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cpu_preset import least_squares

from fastswitch.engine.clock import RealClock
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.simulator import CopyWork, JobCost, LinkCosts
from fastswitch.memory import KVLayout, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["CopyTimes"]

SHARES = (0.05, 0.25, 1.0)  # of the longest context's blocks
LEAST_S = 1e-6  # a job takes no less


class CopyTimes:
    """Seconds of jobs beyond their emulated cost, a pass at a time.

    Args:
        link: emulated.
        layout: of the pools; the runs' orders take its order's place.
        runs: whose orders and ways.
        longest: context of the workload.
    """

    def __init__(self, link: EmulatedLink, layout: KVLayout, runs: Sequence[RunSpec], longest: int) -> None:
        self._clock = RealClock()
        self._cases: list[_Case] = []
        blocks = layout.blocks_for(longest)
        for order, way in sorted({(run.order, run.way) for run in runs if run.way is not None}):
            ordered = replace(layout, order=order)
            pools = [KVPool(ordered, 2 * blocks) for _ in range(2)]
            for pool in pools:
                pool.fill(np.arange(pool.num_blocks), 0.0)  # the first touch of memory costs extra
            swaps = InlineSwaps(*pools, transfer=way, link=link, clock=self._clock)
            costs = LinkCosts(link, ordered, way)
            for share in SHARES:
                for job in _jobs(max(1, round(share * blocks))):
                    self._cases.append(_Case(swaps, job, costs.of(job), job.num_blocks * layout.block_bytes, []))
        self.sample(lambda: None)
        for case in self._cases:
            case.seconds.clear()

    def sample(self, between: Callable[[], None]) -> None:
        """One pass; ``between`` is done before each job, as an engine does an iteration."""
        for case in self._cases:
            between()
            start = self._clock.now()
            case.swaps.submit(case.job)
            case.seconds.append(self._clock.now() - start)
            case.swaps.landed()

    def fit(self) -> CopyWork:
        """What comes closest, by relative error, to the medians of what jobs took beyond the link's cost."""
        if not self._cases:
            return CopyWork()
        terms = np.array([[1.0, case.cost.copies, case.num_bytes] for case in self._cases])
        beyond = [statistics.median(case.seconds) - case.cost.seconds for case in self._cases]
        return CopyWork(*least_squares(terms, np.maximum(beyond, LEAST_S)))

    def as_json(self) -> list[dict[str, Any]]:
        """The jobs, each with its emulated and its measured seconds."""
        return [
            {
                "way": case.cost.way,
                "copies": case.cost.copies,
                "bytes": case.num_bytes,
                "link_s": case.cost.seconds,
                "measured_s": statistics.median(case.seconds),
            }
            for case in self._cases
        ]


@dataclass(frozen=True, slots=True)
class _Case:
    swaps: InlineSwaps
    job: SwapJob
    cost: JobCost  # the link's
    num_bytes: int
    seconds: list[float]


def _jobs(num_blocks: int) -> tuple[SwapJob, SwapJob]:
    """Swap-outs of as many blocks: in one run, and each block by itself."""
    one_run = np.array([[0, 0, num_blocks]], np.int64)
    scattered = np.array([[2 * index, 2 * index, 1] for index in range(num_blocks)], np.int64)
    return SwapJob(0, 0, SwapDirection.SWAP_OUT, (), one_run), SwapJob(0, 0, SwapDirection.SWAP_OUT, (), scattered)

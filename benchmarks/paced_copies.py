"""Model and copies at the demo's own share of copying: the demo's jobs, submitted by the loop that runs the model.

After every iteration the loop asks what has landed, as an engine does, and submits the next job when so far it was
copied for less than the share of the time. Both directions, each on its thread.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from demo_copies import DemoCopies
from tiny_decodes import Decodes

from fastswitch.engine import RealClock, SwapCoordinator
from fastswitch.engine.runs import RUNS
from fastswitch.memory import SwapJob
from fastswitch.memory.pool import KVPool

__all__ = ["PacedCopies"]

LOOP_S = 1.2  # of one loop, about


class PacedCopies:
    """Loops of one length, with copies and without.

    Args:
        demo: whose jobs and whose share.
        decodes: the iteration.
    """

    def __init__(self, demo: DemoCopies, decodes: Decodes) -> None:
        run, spec = RUNS["fastswitch"], demo.bed.spec
        layout = replace(spec.layout, order=run.order)
        pools = [KVPool(layout, num_blocks) for num_blocks in (spec.device_blocks, spec.host_blocks)]
        for pool in pools:
            pool.fill(np.arange(pool.num_blocks), 0.0)  # the first touch of memory costs extra
        self._clock = RealClock()
        self._swaps = SwapCoordinator(*pools, transfer=run.way or "per_run", clock=self._clock)
        self._jobs, self._next = demo.jobs, 0
        self._share = demo.load.copy_share
        self._decodes = decodes
        decodes.iterate()
        self.iterations = max(3, round(LOOP_S / decodes.seconds(3) * 3))

    def round(self) -> dict[str, float | None]:
        """A loop with copies between two halves of one alone: the model's relative speed, and the share copied."""
        half = -(-self.iterations // 2)
        before_s = self._decodes.seconds(half)
        beside_s, copied_s = self._beside()
        alone_s = (before_s + self._decodes.seconds(half)) * self.iterations / (2 * half)
        return {
            "model": alone_s / beside_s,
            "copy_share": copied_s / beside_s,
            "iteration_s": alone_s / self.iterations,
        }

    def close(self) -> None:
        """End the threads."""
        self._swaps.close()

    def _beside(self) -> tuple[float, float]:
        """Seconds of a loop with copies, and those that were copied."""
        start, copied_s, in_flight = self._clock.now(), 0.0, 0
        for _ in range(self.iterations):
            if self._jobs and copied_s <= self._share * (self._clock.now() - start):
                self._swaps.submit(self._job())
                in_flight += 1
            self._decodes.iterate()
            landed = self._swaps.landed()
            copied_s += sum(report.copy_s for report in landed)
            in_flight -= len(landed)
        seconds = self._clock.now() - start
        while in_flight:
            self._swaps.wait_any(None)
            in_flight -= len(self._swaps.landed())
        return seconds, copied_s

    def _job(self) -> SwapJob:
        """The next of the demo's, under a number of its own: they come round again."""
        job = self._jobs[self._next % len(self._jobs)]
        self._next += 1
        return SwapJob(self._next, job.request_id, job.direction, job.ranges, job.runs)

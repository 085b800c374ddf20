"""Swaps on the caller's own thread, whatever a copy is: a job has landed when ``submit`` returns.

Ours. Its seconds are stall, and nothing is ever under way.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol

from fastswitch.engine.clock import Clock
from fastswitch.engine.swaps import SwapReport
from fastswitch.memory import SwapJob

__all__ = ["CopiesNow", "SynchronousSwaps"]


class CopiesNow(Protocol):
    """Makes a job's copies."""

    def __call__(self, job: SwapJob) -> SwapReport:
        """Copy the job and return when it is over; a copy that fails is reported, not raised."""


class SynchronousSwaps:
    """Satisfies ``Swaps``.

    Args:
        copy: makes a job's copies.
        clock: time, shared with the engine.
    """

    def __init__(self, copy: CopiesNow, clock: Clock) -> None:
        self._copy = copy
        self._clock = clock
        self._landed: list[SwapReport] = []
        self._stall_s = 0.0

    @property
    def stall_s(self) -> float:
        """Seconds spent in ``submit`` so far."""
        return self._stall_s

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        """Copy the job and wait for it."""
        start = self._clock.now()
        report = self._copy(job)
        self._stall_s += self._clock.now() - start
        self._landed.append(report)
        future: Future[SwapReport] = Future()
        if report.error is None:
            future.set_result(report)
        else:
            future.set_exception(report.error)
        return future

    def landed(self) -> list[SwapReport]:
        """Jobs submitted since the last call."""
        landed, self._landed = self._landed, []
        return landed

    def lost(self) -> list[SwapReport]:
        """None: what was reported is over."""
        return []

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Nothing: every job has landed."""

    def wait_any(self, timeout_s: float | None) -> None:
        """Nothing: no job is ever under way."""

    def close(self) -> None:
        """Nothing to end."""

"""What the engine asks of whoever moves KV between the tiers, and the report of one move.

Ours. ``SwapCoordinator`` satisfies it with threads, ``InlineSwaps`` on the engine's own thread, a simulator with
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from fastswitch.engine.streams import Event
from fastswitch.memory import SwapJob

__all__ = ["SwapReport", "Swaps"]


@dataclass(frozen=True, slots=True)
class SwapReport:
    """How one job went.

    Attributes:
        job: what was asked for.
        way: how the bytes crossed; ``failed``, ``refused``, ``hung``, or ``returned`` for
            one that had hung and is over, where they did not.
        num_bytes: bytes of the whole blocks moved.
        copies: contiguous pieces moved.
        calls: copy calls issued.
        queue_s: seconds between submission and the first copy call.
        copy_start, copy_done: events around the copies; None where nothing was copied.
        error: why it failed, if it did: then nothing about the destination is certain.
        after_s: of ``queue_s``, seconds in which it was its turn and jobs that it comes after were not enqueued yet.
        submitted_s: when it was submitted, by the engine's clock, where anything was copied.
    """

    job: SwapJob
    way: str
    num_bytes: int = 0
    copies: int = 0
    calls: int = 0
    queue_s: float = 0.0
    copy_start: Event | None = None
    copy_done: Event | None = None
    error: BaseException | None = None
    after_s: float = 0.0
    submitted_s: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether it was given up: nobody may have its blocks until it is reported once more."""
        return self.way == "hung"

    @property
    def copy_s(self) -> float:
        """Seconds from the first copy's start to the last one's end; waits for the copies if need be."""
        if self.copy_start is None or self.copy_done is None:
            return 0.0
        self.copy_done.synchronize()
        return self.copy_done.seconds_since(self.copy_start)


class Swaps(Protocol):
    """Moves jobs. Called from the engine's thread alone."""

    @property
    def stall_s(self) -> float:
        """Seconds for which the caller's work stood still for copies so far."""

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        """Take the job; its future always gets a report or an exception."""

    def landed(self) -> list[SwapReport]:
        """Jobs ended since the last call, failed ones included; never blocks.

        Each once, and after those that it comes after; one that hangs once more when it is over.
        """

    def lost(self) -> list[SwapReport]:
        """Jobs reported by ``landed`` on trust, since later work waits for them, that failed after all."""

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Have the caller's later work start after these jobs; the next ``landed`` reports them."""

    def wait_any(self, timeout_s: float | None) -> None:
        """Block until any job has ended, at most ``timeout_s``; returns at once when none is under way."""

    def close(self) -> None:
        """End everything; every future is settled afterwards."""

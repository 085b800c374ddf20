"""What a swap job's copies take, where none is made: on a link by its formula, or as calibrated on a machine.

Ours. ``chosen`` is the cheapest of the ways that a GPU chooses from, by the same costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.ways import CHOSEN
from fastswitch.kernels import DIRECTIONS, TRANSFERS, CopyDirection, TransferCosts
from fastswitch.kernels.measure_transfers import CHOICES
from fastswitch.kernels.staged import STAGE_BYTES
from fastswitch.memory import KVLayout, SwapDirection, SwapJob

__all__ = ["CalibratedCosts", "CopyCosts", "CopyWork", "FreeCosts", "JobCost", "LinkCosts", "one_run_s"]


@dataclass(frozen=True, slots=True)
class JobCost:
    """One job's copies.

    Attributes:
        way: how the bytes cross.
        seconds: from the first call to the last byte.
        copies: contiguous pieces moved, as `TransferCount` counts them.
        calls: calls issued.
    """

    way: str
    seconds: float
    copies: int
    calls: int


@dataclass(frozen=True, slots=True)
class CopyWork:
    """What a machine does for a job besides what its link costs: 0 but where a link is emulated on top of real copies.

    Attributes:
        job_s: seconds a job.
        copy_s: seconds a contiguous piece.
        byte_s: seconds a byte.
    """

    job_s: float = 0.0
    copy_s: float = 0.0
    byte_s: float = 0.0

    def seconds(self, copies: int, num_bytes: int) -> float:
        """Of one job."""
        return self.job_s + self.copy_s * copies + self.byte_s * num_bytes


class CopyCosts(Protocol):
    """Says what a job takes."""

    def of(self, job: SwapJob) -> JobCost:
        """Its way, seconds, copies and calls; the same for equal jobs."""


class FreeCosts:
    """Copies take no time and no call: nothing is left but what the policy itself costs."""

    def of(self, job: SwapJob) -> JobCost:  # noqa: ARG002
        """Nothing."""
        return JobCost("free", 0.0, 0, 0)


class LinkCosts:
    """By the formulas of `EmulatedLink`.

    Args:
        link: the link.
        layout: of the pools.
        way: a key of ``fastswitch.kernels.TRANSFERS``, or ``chosen``.
        work: what comes on top of the link's cost, by which alone a way is chosen.

    Raises:
        ValueError: if the way is unknown.
    """

    def __init__(self, link: EmulatedLink, layout: KVLayout, way: str, work: CopyWork | None = None) -> None:
        self._ways = _ways(way, CHOICES)
        self._link = link
        self._layout = layout
        self._work = work or CopyWork()

    def of(self, job: SwapJob) -> JobCost:
        """The cheapest of the ways that it may take."""
        layout = self._layout
        seconds = {
            way: self._link.cost_s(way, job.runs, layout.pieces_per_block, layout.piece_bytes) for way in self._ways
        }
        way = min(seconds, key=seconds.__getitem__)
        copies, calls = _issued(way, job, layout)
        besides_s = self._work.seconds(copies, job.num_blocks * layout.block_bytes)
        return JobCost(way, seconds[way] + besides_s, copies, calls)


class CalibratedCosts:
    """By a table that ``fastswitch calibrate`` measured.

    Args:
        costs: the table.
        layout: of the pools.
        way: a key of ``fastswitch.kernels.TRANSFERS`` that the table has, or ``chosen``.

    Raises:
        ValueError: if the table does not have the way.
    """

    def __init__(self, costs: TransferCosts, layout: KVLayout, way: str) -> None:
        self._ways = _ways(way, _measured(costs))
        reason = self.why_not(costs, way)
        if reason is not None:
            raise ValueError(reason)
        self._costs = costs
        self._layout = layout

    @staticmethod
    def why_not(costs: TransferCosts, way: str) -> str | None:
        """Why jobs that take this way cannot be costed by the table; None if they can."""
        known = _measured(costs)
        possible = _measured_as(way) in known if way != CHOSEN else bool(set(known) & set(CHOICES))
        return None if possible else f"the calibration has no way {way}: it has {', '.join(known)}"

    def of(self, job: SwapJob) -> JobCost:
        """The cheapest of the ways that it may take."""
        seconds = {way: self._seconds(way, job) for way in self._ways}
        way = min(seconds, key=seconds.__getitem__)
        return JobCost(way, seconds[way], *_issued(way, job, self._layout))

    def _seconds(self, way: str, job: SwapJob) -> float:
        direction: CopyDirection = "device_to_host" if job.direction is SwapDirection.SWAP_OUT else "host_to_device"
        runs = job.num_blocks if way == "per_block" else job.num_runs
        num_copies = runs * self._layout.pieces_per_block
        mean_bytes = job.num_blocks * self._layout.block_bytes / num_copies
        num_host_runs = _host_runs(job) * self._layout.pieces_per_block
        return self._costs.seconds(_measured_as(way), direction, num_copies, mean_bytes, num_host_runs=num_host_runs)


def one_run_s(costs: CopyCosts, direction: SwapDirection) -> Callable[[int], float]:
    """Seconds to copy so many blocks that lie in one run; each number is worked out once."""

    @functools.cache
    def seconds(num_blocks: int) -> float:
        if not num_blocks:
            return 0.0
        return costs.of(SwapJob(0, None, direction, (), np.array([[0, 0, num_blocks]], np.int64))).seconds

    return seconds


def _ways(way: str, choices: Iterable[str]) -> tuple[str, ...]:
    if way not in (*TRANSFERS, CHOSEN):
        raise ValueError(f"unknown transfer {way!r}: known are {', '.join([*TRANSFERS, CHOSEN])}")
    return tuple(each for each in choices if each in CHOICES) if way == CHOSEN else (way,)


def _measured(costs: TransferCosts) -> list[str]:
    """The ways that the table has in both directions."""
    return [way for way in TRANSFERS if all(way in costs.ways[direction] for direction in DIRECTIONS)]


def _measured_as(way: str) -> str:
    # a loop over blocks issues the same calls as one over runs, so the table does not have it
    return "per_run" if way == "per_block" else way


def _host_runs(job: SwapJob) -> int:
    """Runs of what is contiguous on the host: all that ``staged`` pays for."""
    start = job.runs[:, 1 if job.direction is SwapDirection.SWAP_OUT else 0]
    order = np.argsort(start, kind="stable")
    ends = start[order] + job.runs[order, 2]
    return 1 + int(np.count_nonzero(start[order][1:] != ends[:-1]))


def _issued(way: str, job: SwapJob, layout: KVLayout) -> tuple[int, int]:
    """Copies and calls, as the ways themselves count them; of ``staged`` a memcpy each 32 MiB, as its cost has it.

    The way itself makes one for each run on the host: where the host is scattered there are more.
    """
    if way == "zero_copy":
        return 1, 1
    if way == "staged":
        stages = -(-job.num_blocks * layout.block_bytes // STAGE_BYTES)
        return stages, 2 * stages  # a memcpy and a launch each
    runs = job.num_blocks if way == "per_block" else job.num_runs
    copies = runs * layout.pieces_per_block
    return copies, 1 if way == "batched" else copies

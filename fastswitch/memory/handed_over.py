"""Device blocks that have a new owner while a swap-out still reads them.

Paper: FastSwitch (arXiv 2411.18424) finds conflicts between swaps under way and new allocations, and waits for those.
Ours:  nobody waits but the copies that conflict. A swap-in may take blocks that are being vacated; its job comes
       ``after`` the one that reads them, so that its copies start when those are over.

Only what a request alone reads is handed over: of a shared prefix somebody may come back to the device copy.
Invariant, asserted by `HandedOver.check_invariants`:
1. While a job reads a block that was handed over, the block is held by a segment of a job that comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.segment import Segment
from fastswitch.memory.swap_job import SwapDirection, SwapJob
from fastswitch.memory.tier import Tier

__all__ = ["HandedOver"]


class HandedOver:
    """Takes blocks from swap-outs under way, and remembers who reads them.

    Args:
        device: the device's copies.
    """

    def __init__(self, device: Tier) -> None:
        self._device = device
        self._read_by: dict[SwapJob, NDArray[np.int32]] = {}  # job |-> blocks handed over that it reads

    def __contains__(self, job: SwapJob) -> bool:
        return job in self._read_by

    def candidates(self, segments: Iterable[Segment]) -> list[Segment]:
        """Those among ``segments`` whose device blocks can be handed over."""
        return [segment for segment in segments if self._may_go(segment)]

    def take(self, num_blocks: int, candidates: Sequence[Segment]) -> tuple[SwapJob, ...]:
        """Free ``num_blocks`` blocks, from the first candidates' ends; who reads them. Nothing if they hold fewer.

        Whoever takes them must do so before anybody else is given a block.
        """
        if sum(self._device.num_blocks(segment.segment_id) for segment in candidates) < num_blocks:
            return ()
        jobs: dict[SwapJob, None] = {}
        for segment in candidates:
            if num_blocks <= 0:
                break
            job = segment.job
            assert job is not None, f"{segment.segment_id!r} has no job"
            held = self._device.block_ids(segment.segment_id)
            kept = max(0, len(held) - num_blocks)
            num_blocks -= len(held) - kept
            before = self._read_by.get(job, held[:0])
            self._read_by[job] = np.concatenate([before, held[kept:]])  # noted before anybody may overwrite them
            self._device.cut(segment.segment_id, kept * self._device.block_size)
            jobs[job] = None
        return tuple(jobs)

    def still_read(self, block_ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these device blocks a swap-out under way reads, although they were handed over; bool ``[n]``."""
        if not self._read_by:
            return np.zeros(len(block_ids), np.bool_)
        return np.isin(block_ids, np.concatenate(list(self._read_by.values())))

    def end(self, job: SwapJob) -> bool:
        """The job reads no longer; whether it had handed over anything."""
        return self._read_by.pop(job, None) is not None

    def check_invariants(self, under_way: Iterable[tuple[SwapJob, Iterable[Segment]]]) -> None:
        """Assert the module's invariant; the argument is every job under way with its segments.

        Raises:
            AssertionError: if somebody may overwrite what is being read, which is a bug of ours.
        """
        jobs = list(under_way)
        for reader, read in self._read_by.items():
            held = [
                self._device.block_ids(segment.segment_id)
                for job, segments in jobs
                if reader in job.after
                for segment in segments
            ]
            loose = np.setdiff1d(read, np.concatenate([read[:0], *held]))
            assert not len(loose), f"job {reader.job_id} reads blocks {loose.tolist()}, which nobody holds after it"

    def _may_go(self, segment: Segment) -> bool:
        job = segment.job
        if job is None or segment.quarantined or job.direction is not SwapDirection.SWAP_OUT:
            return False
        alone = segment.num_tokens is None  # not sealed, so that nobody else can read it
        return alone and all(holder.job is job for holder in segment.holders)  # not one of a write-back

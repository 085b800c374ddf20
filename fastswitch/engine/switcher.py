"""Enacts evictions and returns: manager, copies, request states and the account of every switch, in step.

Ours. The scheduler decides who leaves and who comes; here it happens. A switch is counted when it has happened.
"""

from __future__ import annotations

from fastswitch.engine.request import Request
from fastswitch.engine.swap_rule import SwapMode, SwapRule
from fastswitch.engine.swaps import SwapReport, Swaps
from fastswitch.engine.switch_counts import SwitchCounts
from fastswitch.memory import KVCacheManager, OutOfBlocksError, SwapDirection, SwapJob
from fastswitch.sched import EvictionWay, RequestState

__all__ = ["Switcher"]


class Switcher:
    """Moves requests between the tiers for one engine.

    Args:
        kv: who holds what.
        swaps: who moves the bytes.
        adaptive: overlap a copy or wait for it; None always overlaps.
        counts: where each switch is entered.
    """

    def __init__(self, kv: KVCacheManager, swaps: Swaps, adaptive: SwapRule | None, counts: SwitchCounts) -> None:
        self.kv = kv
        self.swaps = swaps
        self.adaptive = adaptive
        self.counts = counts
        self._refused: list[SwapReport] = []  # jobs that nobody would take
        self._in_flight: dict[int, Request] = {}  # job_id |-> whose
        self._unobserved: list[SwapReport] = []  # landed; their copies may still be under way on a device

    @property
    def num_in_flight(self) -> int:
        """Jobs that have not been landed."""
        return len(self._in_flight)

    def evict(self, request: Request, way: EvictionWay) -> None:
        """Push a resident request out; a victim that the host cannot take is recomputed (rule 6)."""
        request.left_device = True
        if way is EvictionWay.SWAP_OUT:
            try:
                self._swap_out(request)
            except OutOfBlocksError:
                self.drop(request)
        else:
            self.drop(request)

    def bring_in(self, request: Request) -> bool:
        """Give a waiting or evicted request its device room, and its KV if any; whether the room was there."""
        try:
            if request.state is RequestState.SWAPPED:
                self._swap_in(request)
            else:
                self.kv.grow(request.request_id, request.num_tokens)
                request.run()
        except OutOfBlocksError:
            return False
        request.protected = True
        return True

    def drop(self, request: Request) -> None:
        """Forget its KV on both tiers: it is computed again."""
        self.counts.drops += 1
        self.kv.drop(request.request_id)
        request.protected = False
        request.left_device = True
        request.state = RequestState.WAITING if request.turn is not None else RequestState.IDLE

    def num_blocks_to_begin(self, direction: SwapDirection) -> int | None:
        """Blocks whose copies are worth beginning now; None: any number."""
        return None if self.adaptive is None else self.adaptive.num_blocks_to_begin(direction, self._queued(direction))

    def poll(self) -> bool:
        """Make true what has landed since the last poll; whether anything had."""
        if not self._in_flight and not self._unobserved:
            return False
        reports = [*self._refused, *self.swaps.landed()]
        self._refused = []
        for report in reports:
            self._landed(report)
        self._observe()
        return bool(reports)

    def _swap_out(self, request: Request) -> None:
        reused = min(request.host_valid_len, request.device_valid_len)
        job = self.kv.begin_swap_out(request.request_id)
        self.counts.reused_tokens += reused
        request.protected = False
        if job is None:
            self.counts.clean_evictions += 1
            request.state = RequestState.SWAPPED
        else:
            request.state = RequestState.SWAPPING_OUT
            self._submit(request, job)

    def _swap_in(self, request: Request) -> None:
        job = self.kv.begin_swap_in(request.request_id, request.num_tokens)
        if job is None:
            request.run()
            return
        request.state = RequestState.SWAPPING_IN
        self._submit(request, job)

    def _submit(self, request: Request, job: SwapJob) -> None:
        request.job = job
        self._in_flight[job.job_id] = request
        try:
            self.swaps.submit(job)
        except RuntimeError as error:  # a copy thread has ended: its jobs fail, everybody else goes on
            self._refused.append(SwapReport(job, "refused", error=error))
            return
        num_queued = self._queued(job.direction)  # the job's own included
        if self.adaptive is not None and self.adaptive.choose(job.direction, num_queued) is SwapMode.WAIT:
            self.swaps.wait([job])

    def _queued(self, direction: SwapDirection) -> int:
        """Blocks that the direction's thread has to copy yet, as far as its landings are known."""
        jobs = [request.job for request in self._in_flight.values() if request.job is not None]
        return sum(job.num_blocks for job in jobs if job.direction is direction)

    def _landed(self, report: SwapReport) -> None:
        job = report.job
        request = self._in_flight.pop(job.job_id)
        request.job = None
        self.counts.add(report)
        self._unobserved.append(report)
        if report.error is not None:
            self.kv.abort(job)
        else:
            self.kv.land(job)
        if request.state is RequestState.FINISHED:
            return
        if report.error is not None:
            self.drop(request)
        elif job.direction is SwapDirection.SWAP_OUT:
            request.state = RequestState.SWAPPED
        elif request.turn is not None:
            request.run()
        else:
            request.state = RequestState.IDLE

    def _observe(self) -> None:
        """Tell the adaptive rule of copies that are over; never waits for one."""
        if not self._unobserved:
            return
        reports, self._unobserved = self._unobserved, []
        for report in reports:
            if report.copy_done is not None and not report.copy_done.query():
                self._unobserved.append(report)
            elif self.adaptive is not None and report.copy_done is not None:
                self.adaptive.observe_copy(report.job.direction, report.job.num_blocks, report.copy_s)

"""Enacts evictions and returns: manager, copies, request states and the account of every switch, in step.

Ours. The scheduler decides who leaves and who comes; here it happens. A switch is counted when it has happened.
"""

from __future__ import annotations

from collections.abc import Hashable

from fastswitch.engine.pacing import Pacing
from fastswitch.engine.request import Request
from fastswitch.engine.swap_rule import SwapRule
from fastswitch.engine.swaps import SwapReport, Swaps
from fastswitch.engine.switch_costs import RunningCosts
from fastswitch.engine.switch_counts import SwitchCounts
from fastswitch.engine.switch_record import CLEAN, DROPPED
from fastswitch.engine.timeline_recorder import TimelineRecorder
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
        costs: told what copies took; None where nobody prices them.
    """

    def __init__(
        self,
        kv: KVCacheManager,
        swaps: Swaps,
        adaptive: SwapRule | None,
        counts: SwitchCounts,
        costs: RunningCosts | None = None,
    ) -> None:
        self.kv = kv
        self.swaps = swaps
        self._pacing = Pacing(adaptive, costs)
        self.counts = counts
        self.recorder: TimelineRecorder | None = None
        self._refused: list[SwapReport] = []  # jobs that nobody would take
        self._refusing: set[SwapDirection] = set()  # directions whose thread has ended, or was hanging when last asked
        self._in_flight: dict[int, Request] = {}  # job_id |-> whose
        self._ahead: dict[SwapJob, Request] = {}  # likewise, of copies that were begun ahead
        self._hanging: set[int] = set()  # job_ids of copies that were given up
        self._built_on_sand: set[int] = set()  # job_ids of copies of what is not right

    @property
    def num_in_flight(self) -> int:
        """Jobs that have not been landed."""
        return len(self._in_flight) + len(self._ahead)

    def is_idle(self, direction: SwapDirection) -> bool:
        """Whether nothing is under way that way, as far as is known, and something could be."""
        return direction not in self._refusing and not self._queued(direction)

    def evict(self, request: Request, way: EvictionWay) -> None:
        """Push a resident request out; a victim that the host cannot take is recomputed (rule 6)."""
        request.left_device = True
        self._note_stay(request)
        if way is EvictionWay.SWAP_OUT:
            try:
                self._swap_out(request)
            except OutOfBlocksError:
                self.drop(request)
        else:
            self.drop(request)

    def bring_in(self, request: Request, *, early: bool = False) -> bool:
        """Give a waiting or evicted request its device room, and its KV if any; whether the room was there.

        With ``early`` the room may be one that copies under way still read: its own copy comes after those.
        """
        try:
            if request.state is RequestState.SWAPPED:
                self._swap_in(request, early=early)
            else:
                self.kv.grow(request.request_id, request.num_tokens)
                request.run()
        except OutOfBlocksError:
            return False
        request.protected = True
        request.num_tokens_before = request.num_tokens
        return True

    def write_back(self, request: Request, max_blocks: int) -> int:
        """Copy a resident's first blocks that the host lacks ahead, at most so many; how many."""
        return self._begin_ahead(request, self.kv.begin_write_back(request.request_id, max_blocks))

    def prefetch(self, request: Request, max_blocks: int) -> int:
        """Copy an evicted request's first blocks that the device lacks ahead, at most so many; how many."""
        return self._begin_ahead(request, self.kv.begin_prefetch(request.request_id, max_blocks))

    def drop(self, request: Request) -> None:
        """Forget its KV on both tiers: it is computed again."""
        self.counts.drops += 1
        self.counts.of_clients[request.client_id, "drops"] += 1
        if self.recorder is not None:
            self.recorder.evicted(request, DROPPED)
        self.kv.drop(request.request_id)
        request.ahead = None
        request.protected = False
        request.left_device = True
        request.state = RequestState.WAITING if request.turn is not None else RequestState.IDLE

    def lost(self) -> set[Hashable]:
        """Requests whose copies were trusted, since later work waits for them, and failed after all."""
        return {report.job.request_id for report in self.swaps.lost()}

    def lose(self, request: Request) -> None:
        """Its last copies failed after they had been reported: it is computed again, now or when its next one ends."""
        self.counts.failed += 1
        if request.job is not None:
            self._built_on_sand.add(request.job.job_id)
        elif request.state is not RequestState.WAITING:
            self.drop(request)

    def num_blocks_to_begin(self, direction: SwapDirection) -> int | None:
        """Blocks whose copies are worth beginning now; None: any number."""
        return self._pacing.num_blocks_to_begin(direction, self._queued(direction))

    def poll(self) -> bool:
        """Make true what has landed since the last poll; whether anything had."""
        if not (self._in_flight or self._ahead or self._hanging) and self._pacing.is_settled:
            return False
        reports = [*self._refused, *self.swaps.landed()]
        self._refused = []
        for report in reports:
            self._landed(report)
        self._pacing.observe()
        return bool(reports)

    def _note_stay(self, request: Request) -> None:
        short = request.turn is not None and request.num_tokens <= request.num_tokens_before + 1
        request.short_stays = request.short_stays + 1 if short else 0
        if short:
            named = request.request_id if request.conversation_id is None else request.conversation_id
            self.counts.short_stays.enter(named, request.short_stays)

    def _swap_out(self, request: Request) -> None:
        reused = min(request.host_valid_len, request.device_valid_len)
        job = self.kv.begin_swap_out(request.request_id)
        self.counts.reused_tokens += reused
        request.protected = False
        if job is None:
            self.counts.clean_evictions += 1
            self.counts.of_clients[request.client_id, "clean_evictions"] += 1
            if self.recorder is not None:
                self.recorder.evicted(request, CLEAN, reused)
            request.state = RequestState.SWAPPED
        else:
            request.state = RequestState.SWAPPING_OUT
            self._begin(request, job, reused)

    def _swap_in(self, request: Request, *, early: bool) -> None:
        job = self.kv.begin_swap_in(request.request_id, request.num_tokens, early=early)
        if job is None:
            request.run()
            return
        request.state = RequestState.SWAPPING_IN
        self._begin(request, job, 0)

    def _begin_ahead(self, request: Request, job: SwapJob | None) -> int:
        if job is None:
            return 0
        request.ahead = job
        self._ahead[job] = request
        self._submit(request, job, 0)
        return job.num_blocks

    def _begin(self, request: Request, job: SwapJob, reused_tokens: int) -> None:
        request.job = job
        self._in_flight[job.job_id] = request
        self._submit(request, job, reused_tokens)

    def _submit(self, request: Request, job: SwapJob, reused_tokens: int) -> None:
        if self.recorder is not None:
            self.recorder.submits(request, job, reused_tokens)
        try:
            self.swaps.submit(job)
        except RuntimeError as error:  # a copy thread has ended or hangs: its jobs fail, everybody else goes on
            self._refused.append(SwapReport(job, "refused", error=error))
            self._refusing.add(job.direction)
            return
        self._refusing.discard(job.direction)
        if self._pacing.is_worth_waiting_for(job, self._queued(job.direction)):
            self.counts.waits += 1
            self.swaps.wait([job])
        if self.recorder is not None:
            self.recorder.goes_on()

    def _queued(self, direction: SwapDirection) -> int:
        """Blocks that the direction's thread has to copy yet, as far as its landings are known."""
        needed = (request.job for request in self._in_flight.values())
        jobs = (job for job in (*needed, *self._ahead) if job is not None)
        return sum(job.num_blocks for job in jobs if job.direction is direction)

    def _landed(self, report: SwapReport) -> None:
        job = report.job
        if job.job_id in self._hanging:  # it is over at last, and nobody wants what it copied any more
            self._hanging.remove(job.job_id)
            self.kv.abort(job)
            return
        self.counts.add(report)
        if self.recorder is not None:
            self.recorder.landed(report)
        self._end(report)
        if job.ahead:
            request = self._ahead.pop(job)
            if request.ahead is job:  # else it was dropped meanwhile, and has gone on without
                request.ahead = None
                if report.hangs and request.state is not RequestState.FINISHED:
                    self.drop(request)
            return
        request = self._in_flight.pop(job.job_id)
        if report.error is None:
            self.counts.of_clients[request.client_id, f"{job.direction.value}s"] += 1
        request.job = None
        if request.state is not RequestState.FINISHED:
            self._settle(request, report)

    def _settle(self, request: Request, report: SwapReport) -> None:
        """Where the request stands, now that its copy has ended."""
        job = report.job
        if report.error is not None or job.job_id in self._built_on_sand:
            self._built_on_sand.discard(job.job_id)
            self.drop(request)
        elif job.direction is SwapDirection.SWAP_OUT:
            request.state = RequestState.SWAPPED
        elif request.turn is not None:
            request.run()
        else:
            request.state = RequestState.IDLE

    def _end(self, report: SwapReport) -> None:
        """What the manager makes of it."""
        if report.error is None:
            self._pacing.add(report)
            self.kv.land(report.job)
        elif report.hangs:
            self._hanging.add(report.job.job_id)
            self.kv.quarantine(report.job)
        else:
            self.kv.abort(report.job)

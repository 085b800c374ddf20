"""The step: who holds memory, who gets tokens, and the iteration that computes them.

Ours. One step:

    land finished swaps -> draw levels -> place: evict, bring in -> poll landings again -> grow in rank order ->
    bring in behind copies under way -> copy ahead -> pack tokens over the ready -> run the batch -> drop who was
    computed from a copy that failed after all -> commit lengths, charge, emit tokens, end turns

A placement is kept while nothing arrived, landed, ended, changed rank or ran short (`placer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from fastswitch.engine.ahead import CopyAhead
from fastswitch.engine.clock import Clock
from fastswitch.engine.conversations import Conversations
from fastswitch.engine.decision_log import DecisionLog
from fastswitch.engine.executor import BatchEntry, Executor
from fastswitch.engine.placer import Placer
from fastswitch.engine.request import Request
from fastswitch.engine.room import RoomNow
from fastswitch.engine.swap_rule import SwapRule
from fastswitch.engine.switch_costs import RunningCosts
from fastswitch.engine.switcher import Switcher
from fastswitch.engine.timeline_recorder import TimelineRecorder
from fastswitch.memory import KVCacheManager
from fastswitch.sched import RequestState, Scheduler

__all__ = ["DeadlockError", "StepLoop"]

# twice as fast as the class, which checks its arguments' names
_entry: Callable[[tuple[int, int, int, bool, Request]], BatchEntry] = partial(tuple.__new__, BatchEntry)


class DeadlockError(RuntimeError):
    """Requests want memory, nothing runs, nothing is in flight, nothing will arrive: nothing can change.

    But for blocks that are quarantined: when the copy that hangs is back, the engine can go on.
    """


class StepLoop:
    """Steps the requests of one engine.

    Args:
        executor: computes batches.
        scheduler: decides.
        switcher: enacts evictions and returns.
        conversations: the requests.
        clock: time.
        adaptive: told how long iterations take.
        costs: told how long prompts take.
        copies_ahead: copy before it is needed what an idle link can carry.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        switcher: Switcher,
        conversations: Conversations,
        clock: Clock,
        adaptive: SwapRule | None,
        costs: RunningCosts | None,
        *,
        copies_ahead: bool,
    ) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._switcher = switcher
        self._kv: KVCacheManager = switcher.kv
        self._conversations = conversations
        self._clock = clock
        self._adaptive = adaptive
        self._costs = costs
        self._placer = Placer(scheduler, switcher, conversations)
        self._ahead = CopyAhead(switcher, self._placer, conversations, scheduler.ranker) if copies_ahead else None
        self.executed_iterations = 0
        self.waited_s = 0.0  # nothing ran, because those who could waited for a copy
        self.recorder: TimelineRecorder | None = None

    @property
    def num_in_flight(self) -> int:
        """Copies under way."""
        return self._switcher.num_in_flight

    @property
    def leaves_waiting(self) -> bool:
        """Whether somebody wanted device room at the last placement and did not get it."""
        return self._placer.placement.leaves_waiting

    def log_decisions(self) -> DecisionLog:
        """From now on write the schedule down, in what comes back; an earlier log gets no more."""
        self._placer.log = log = DecisionLog()
        return log

    def step(self) -> bool:
        """Do one step; whether an iteration ran."""
        self._poll()
        self._draw_levels()
        moved = self._placer.place()
        self._poll()
        if moved or self._conversations.changed:
            self._placer.look_around()
            self._admit(self._placer.running)
        ready = self._placer.grow()
        self._placer.bring_in_early()
        if not ready:
            return False
        if self._ahead is not None:
            self._ahead.begin(self.executed_iterations)
        self._iterate(ready)
        return True

    def wait_for_work(self, until: float | None) -> None:
        """Nothing can run: wait for a copy, or jump to ``until``, when the next turn arrives.

        Returns at once when the placement is stale: something landed after it was made, so the next step may run.

        Raises:
            DeadlockError: if neither can help, and somebody wants to run.
        """
        if self._conversations.changed:
            return
        wanting = any(True for _ in self._conversations.wanting())
        if self._switcher.num_in_flight:
            start = self._clock.now()
            self._switcher.swaps.wait_any(None if until is None else max(0.0, until - start))
            if wanting:
                end = self._clock.now()
                self.waited_s += end - start
                if self.recorder is not None:
                    self.recorder.waited(start, end)
        elif until is not None:
            self._clock.skip_to(until)
        elif wanting:
            raise DeadlockError(self._broken_equation())

    def _poll(self) -> None:
        if self._switcher.poll():
            self._conversations.changed = True

    def _draw_levels(self) -> None:
        ranker = self._scheduler.ranker
        requests = self._conversations.newcomers()
        due = ranker.is_due(self.executed_iterations)
        if due:
            requests = list(self._conversations.requests)
        elif not requests:
            return
        levels = ranker.new_levels(requests, self.executed_iterations)
        request = self._conversations.request
        for request_id, level in levels.items():
            request(request_id).priority = level
        if due or levels:
            self._conversations.rank_anew()

    def _admit(self, running: Sequence[Request]) -> None:
        """Tell the accountant of turns that have memory for the first time."""
        for request in running:
            turn = request.turn
            if turn is not None and not turn.admitted:
                turn.admitted = True
                self._scheduler.accountant.admitted(request, len(turn.prompt))

    def _iterate(self, ready: Sequence[Request]) -> None:
        output = self._scheduler.pack(ready)
        if self._placer.log is not None:
            self._placer.log.packed(self.executed_iterations, self._placer.placement.order, output)
        requests = self._conversations.of([request_id for request_id, _, _ in output.scheduled])
        batch = [
            _entry((request_id, start, num_tokens, start + num_tokens == request.num_tokens, request))
            for request, (request_id, start, num_tokens) in zip(requests, output.scheduled, strict=True)
        ]
        start = self._clock.now()
        sampled = self._executor.run(batch)
        now = self._clock.now()
        requests, batch, sampled = self._without_lost(requests, batch, sampled)
        self.executed_iterations += 1
        if self.recorder is not None:
            self.recorder.ran(start, now, batch)
        if self._adaptive is not None:
            self._adaptive.observe_iteration(now - start, len(ready))
        if self._costs is not None and len(batch) == 1 and batch[0].start == 0:
            self._costs.observe_prompt(batch[0].num_tokens, now - start)
        self._kv.commit_batch([(request_id, start + num_tokens) for request_id, start, num_tokens, _, _ in batch])
        self._account(requests, batch, sampled, now)

    def _without_lost(
        self, requests: list[Request], batch: list[BatchEntry], sampled: list[int | None]
    ) -> tuple[list[Request], list[BatchEntry], list[int | None]]:
        """The iteration without those who were computed from a copy that was trusted, and failed."""
        lost = self._switcher.lost()
        if not lost:
            return requests, batch, sampled
        for request in self._conversations.requests:
            if request.request_id in lost:
                self._switcher.lose(request)
        self._conversations.changed = True
        kept = [i for i, request in enumerate(requests) if request.request_id not in lost]
        return [requests[i] for i in kept], [batch[i] for i in kept], [sampled[i] for i in kept]

    def _account(self, requests: list[Request], batch: list[BatchEntry], sampled: list[int | None], now: float) -> None:
        charge = self._scheduler.accountant.charge
        for request, (_, start, num_tokens, samples, _), token in zip(requests, batch, sampled, strict=True):
            request.valid_len = end = start + num_tokens
            if request.protected:
                self._end_protection(request, end, samples)
            if start == request.high_water and end == request.charged:  # a decode of one that has lost nothing
                request.high_water, request.charged = end, end + samples
                charge(request, 0, samples)
            else:
                self._charge(request, start, end, samples)
            turn = request.turn
            if token is None or turn is None:
                continue
            if request.emit(turn, token, now) == turn.max_new_tokens:
                self._conversations.end_turn(request)

    def _end_protection(self, request: Request, end: int, samples: bool) -> None:
        # what was computed before and lost is not progress: who is dropped each time it has that again never ends
        if samples or end > request.high_water:
            request.protected = False
            self._conversations.changed = self._conversations.changed or self._placer.placement.leaves_waiting

    def _charge(self, request: Request, start: int, end: int, num_sampled: int) -> None:
        if start < request.high_water:
            num_recomputed, counts = min(end, request.high_water) - start, self._switcher.counts
            counts.recomputed_tokens += num_recomputed
            counts.of_clients[request.client_id, "recomputed_tokens"] += num_recomputed
        request.high_water = max(request.high_water, end)
        prompt = max(0, end - request.charged)
        request.charged = max(request.charged, end + num_sampled)  # an answer's token is charged when it is sampled
        self._scheduler.accountant.charge(request, prompt, num_sampled)

    def _broken_equation(self) -> str:
        room = RoomNow(self._switcher)
        order = [self._conversations.request(request_id) for request_id in self._placer.placement.order]
        first = next(request for request in order if request.turn is not None)
        # its own clean blocks are among the clean ones, so it is asked for them again; a resident keeps what it holds
        quarantined = self._kv.statistics().device.quarantined
        hung = f"; {quarantined} are quarantined: go on when the copies that hang are back" if quarantined else ""
        need = first.blocks_needed + (first.device_blocks if first.state is RequestState.SWAPPED else 0)
        return (
            f"deadlock: request {first.request_id} ({first.state.value}) needs {need} blocks, but free {room.free} + "
            f"clean {room.clean} + vacating {room.vacating} < {need} and nothing below it can leave" + hung
        )

"""The step: who holds memory, who gets tokens, and the iteration that computes them.

Ours. One step:

    land finished swaps -> draw levels -> place: evict, bring in -> poll landings again -> grow in rank order ->
    pack tokens over the ready -> run the batch -> commit lengths, charge, emit tokens, end turns

A placement is kept while nothing arrived, landed, ended, changed rank or ran short.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastswitch.engine.adaptive import AdaptiveSwap
from fastswitch.engine.clock import Clock
from fastswitch.engine.conversations import Conversations
from fastswitch.engine.executor import BatchEntry, Executor
from fastswitch.engine.request import Request
from fastswitch.engine.room import RoomNow
from fastswitch.engine.switcher import Switcher
from fastswitch.memory import KVCacheManager, OutOfBlocksError
from fastswitch.sched import EvictionWay, Insiders, Placement, Ranking, RequestState, Scheduler

__all__ = ["DeadlockError", "StepLoop"]

NOBODY = Ranking.of((), ())
NOTHING = Placement((), 0, (), (), (), frozenset(), (), 0, frozenset())


class DeadlockError(RuntimeError):
    """Requests want memory, nothing runs, nothing is in flight, nothing will arrive: nothing can ever change."""


class StepLoop:
    """Steps the requests of one engine.

    Args:
        executor: computes batches.
        scheduler: decides.
        switcher: enacts evictions and returns.
        conversations: the requests.
        clock: time.
        adaptive: told how long iterations take.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        switcher: Switcher,
        conversations: Conversations,
        clock: Clock,
        adaptive: AdaptiveSwap | None,
    ) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._switcher = switcher
        self._kv: KVCacheManager = switcher.kv
        self._conversations = conversations
        self._clock = clock
        self._adaptive = adaptive
        self._ranking = NOBODY
        self._insiders = Insiders.of(NOBODY)
        self._placement = NOTHING
        self._unsettled = False  # the placement's evictions and returns may have left other room than it reckoned with
        self._running: list[Request] = []  # residents with something to compute, best first
        self.executed_iterations = 0
        self.waited_s = 0.0  # nothing ran, because those who could waited for a copy

    @property
    def num_in_flight(self) -> int:
        """Copies under way."""
        return self._switcher.num_in_flight

    def step(self) -> bool:
        """Do one step; whether an iteration ran."""
        self._poll()
        self._draw_levels()
        moved = self._place()
        self._poll()
        if moved or self._conversations.changed:
            self._look_around()
        ready = self._grow()
        if not ready:
            return False
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
                self.waited_s += self._clock.now() - start
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
        if ranker.is_due(self.executed_iterations):
            requests = list(self._conversations.requests)
        elif not requests:
            return
        levels = ranker.new_levels(requests, self.executed_iterations)
        request = self._conversations.request
        for request_id, level in levels.items():
            request(request_id).priority = level
        if levels:
            self._conversations.rank_anew()

    # Residency

    def _is_stale(self) -> bool:
        """Whether another placement could decide otherwise than the last one."""
        if self._conversations.changed:
            return True
        if not self._placement.leaves_waiting:
            return False
        # those who wait claim room, so who may grow is decided anew
        growing = any(request.num_tokens > request.room for request in self._running)
        return growing or (self._unsettled and any(r.blocks_needed for r in self._conversations.wanting()))

    def _place(self) -> bool:
        """Place until the placement asks for nothing that changes the room at once; whether anybody moved."""
        if not self._is_stale():
            return False
        moved, self._conversations.changed = self._conversations.changed, False
        self._hold_suspended_off()
        self._rank()
        while True:
            if moved:
                self._insiders = Insiders.of(self._ranking)
            self._placement = self._scheduler.place_ranked(self._ranking, self._insiders, RoomNow(self._switcher))
            if not self._evict():
                break
            moved = True
        coming = (*self._placement.swap_ins, *self._placement.admissions)
        for request_id in coming:
            self._switcher.bring_in(self._conversations.request(request_id))
        self._unsettled = bool(self._placement.evictions or coming)
        return moved or self._unsettled

    def _rank(self) -> None:
        if self._conversations.reranked:
            self._conversations.reranked = False
            self._ranking = self._scheduler.rank(self._conversations.candidates())
            self._kv.prefer(self._ranking.order)

    def _evict(self) -> bool:
        """Enact the placement's evictions; whether one of them gave room at once."""
        at_once = False
        for eviction in self._placement.evictions:
            request = self._conversations.request(eviction.request_id)
            self._switcher.evict(request, eviction.way)
            at_once = at_once or request.state is not RequestState.SWAPPING_OUT
        return self._switcher.poll() or at_once

    def _hold_suspended_off(self) -> None:
        for request in self._conversations.suspended:
            if request.state in (RequestState.RUNNING, RequestState.IDLE) and request.device_blocks:
                self._switcher.evict(request, EvictionWay.SWAP_OUT)

    def _look_around(self) -> None:
        """Who is on the device now, who of them runs, and the room that these hold."""
        if self._unsettled or self._conversations.changed:  # else nobody moved since the placement
            self._insiders = Insiders.of(self._ranking)
        ids = [r.request_id for _, r in self._insiders.active if r.state is RequestState.RUNNING]
        self._running = [self._conversations.request(request_id) for request_id in ids]
        for request in self._running:
            request.room = request.device_blocks * self._kv.block_size

    def _grow(self) -> list[Request]:
        """The running requests that hold room for their known tokens, best first; growth is given in that order."""
        return [r for r in self._running if r.num_tokens <= r.room or self._grow_one(r)]

    def _grow_one(self, request: Request) -> bool:
        if request.request_id in self._placement.sitting_out:
            return False
        try:
            self._kv.grow(request.request_id, request.num_tokens)
        except OutOfBlocksError:
            self._conversations.changed = True  # ran short: place again
            return False
        request.room = request.device_blocks * self._kv.block_size
        return True

    # Compute

    def _iterate(self, ready: Sequence[Request]) -> None:
        output = self._scheduler.pack(ready)
        requests = [self._conversations.request(entry.request_id) for entry in output.scheduled]
        batch = [
            BatchEntry(request_id, start, num_tokens, start + num_tokens == request.num_tokens, request)
            for request, (request_id, start, num_tokens) in zip(requests, output.scheduled, strict=True)
        ]
        start = self._clock.now()
        sampled = self._executor.run(batch)
        now = self._clock.now()
        self.executed_iterations += 1
        if self._adaptive is not None:
            self._adaptive.observe_iteration(now - start, len(ready))
        self._kv.commit_batch([(entry.request_id, entry.start + entry.num_tokens) for entry in batch])
        for request, entry, token in zip(requests, batch, sampled, strict=True):
            self._account(request, entry, token, now)

    def _account(self, request: Request, entry: BatchEntry, token: int | None, now: float) -> None:
        if request.protected:
            request.protected = False
            self._conversations.changed = self._conversations.changed or self._placement.leaves_waiting
        self._charge(request, entry)
        turn = request.turn
        if token is None or turn is None:
            return
        request.emit(turn, token, now)
        if len(turn.generated) == turn.max_new_tokens:
            self._conversations.end_turn(request)

    def _charge(self, request: Request, entry: BatchEntry) -> None:
        _, start, num_tokens, samples, _ = entry
        end = start + num_tokens
        if start == request.high_water and end == request.charged:  # a decode of one that has lost nothing
            request.high_water, request.charged = end, end + samples
            self._scheduler.accountant.charge(request, 0, int(samples))
            return
        if start < request.high_water:
            self._switcher.counts.recomputed_tokens += min(end, request.high_water) - start
        request.high_water = max(request.high_water, end)
        prompt = max(0, end - request.charged)
        request.charged = max(request.charged, end + samples)  # an answer's token is charged when it is sampled
        self._scheduler.accountant.charge(request, prompt, int(samples))

    def _broken_equation(self) -> str:
        room = RoomNow(self._switcher)
        order = [self._conversations.request(request_id) for request_id in self._placement.order]
        first = next(request for request in order if request.turn is not None)
        # its own clean blocks are among the clean ones, so it is asked for them again; a resident keeps what it holds
        need = first.blocks_needed + (first.device_blocks if first.state is RequestState.SWAPPED else 0)
        return (
            f"deadlock: request {first.request_id} ({first.state.value}) needs {need} blocks, but free {room.free} + "
            f"clean {room.clean} + vacating {room.vacating} < {need} and nothing below it can leave"
        )

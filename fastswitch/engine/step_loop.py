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
from fastswitch.engine.switcher import Switcher
from fastswitch.memory import KVCacheManager, OutOfBlocksError
from fastswitch.sched import EvictionWay, Placement, PoolView, RequestState, Scheduler

__all__ = ["DeadlockError", "StepLoop"]

NOBODY = Placement((), (), (), (), frozenset(), ())


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
        self._placement = NOBODY
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
        self._place()
        self._poll()
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
        requests = list(self._conversations.requests)
        levels = self._scheduler.ranker.new_levels(requests, self.executed_iterations)
        for request_id, level in levels.items():
            self._conversations.request(request_id).priority = level
            self._conversations.changed = True

    # Residency

    def _place(self) -> None:
        """Place until the placement asks for nothing that changes the room at once."""
        growing = self._placement.unplaced and any(r.blocks_needed for r in self._conversations.wanting())
        if not (self._conversations.changed or growing):
            return
        self._conversations.changed = False
        self._hold_suspended_off()
        while True:
            candidates = [request for request in self._conversations.requests if not request.suspended]
            self._placement = self._scheduler.place(candidates, self._pools())
            self._kv.prefer(self._placement.order)
            if not self._evict():
                break
        for request_id in (*self._placement.swap_ins, *self._placement.admissions):
            self._switcher.bring_in(self._conversations.request(request_id))

    def _evict(self) -> bool:
        """Enact the placement's evictions; whether one of them gave room at once."""
        at_once = False
        for eviction in self._placement.evictions:
            request = self._conversations.request(eviction.request_id)
            self._switcher.evict(request, eviction.way)
            at_once = at_once or request.state is not RequestState.SWAPPING_OUT
        return self._switcher.poll() or at_once

    def _hold_suspended_off(self) -> None:
        for request in self._conversations.requests:
            resident = request.state in (RequestState.RUNNING, RequestState.IDLE)
            if request.suspended and resident and request.device_blocks:
                self._switcher.evict(request, EvictionWay.SWAP_OUT)

    def _pools(self) -> PoolView:
        kv = self._kv
        return PoolView(kv.num_free, kv.num_clean, kv.num_vacating, kv.num_host_free)

    def _grow(self) -> list[Request]:
        """The residents that hold room for their known tokens, best first; growth is given in that order."""
        ready = []
        for request_id in self._placement.order:
            request = self._conversations.request(request_id)
            if request.state is not RequestState.RUNNING or request.turn is None or request.suspended:
                continue
            if request.blocks_needed and not self._grow_one(request):
                continue
            ready.append(request)
        return ready

    def _grow_one(self, request: Request) -> bool:
        if request.request_id in self._placement.sitting_out:
            return False
        try:
            self._kv.grow(request.request_id, request.num_tokens)
        except OutOfBlocksError:
            self._conversations.changed = True  # ran short: place again
            return False
        return True

    # Compute

    def _iterate(self, ready: Sequence[Request]) -> None:
        output = self._scheduler.pack(ready)
        requests = [self._conversations.request(entry.request_id) for entry in output.scheduled]
        batch = [self._entry(r, e.num_tokens) for r, e in zip(requests, output.scheduled, strict=True)]
        start = self._clock.now()
        sampled = self._executor.run(batch)
        now = self._clock.now()
        self.executed_iterations += 1
        if self._adaptive is not None:
            self._adaptive.observe_iteration(now - start)
        for request, entry, token in zip(requests, batch, sampled, strict=True):
            self._commit(request, entry, token, now)

    def _entry(self, request: Request, num_tokens: int) -> BatchEntry:
        start = request.device_valid_len
        token_ids = request.tokens[start : start + num_tokens]
        table = self._kv.block_table(request.request_id)
        return BatchEntry(request.request_id, token_ids, start, table, start + num_tokens == request.num_tokens)

    def _commit(self, request: Request, entry: BatchEntry, token: int | None, now: float) -> None:
        end = entry.start + len(entry.token_ids)
        self._kv.commit(request.request_id, end)
        if request.protected:
            request.protected = False
            self._conversations.changed = self._conversations.changed or bool(self._placement.unplaced)
        self._charge(request, entry, end)
        if token is None or request.turn is None:
            return
        request.tokens.append(token)
        turn = request.turn
        turn.generated.append(token)
        turn.token_times.append(now)
        turn.switched.append(request.left_device)
        request.left_device = False
        if len(turn.generated) == turn.max_new_tokens:
            self._conversations.end_turn(request)

    def _charge(self, request: Request, entry: BatchEntry, end: int) -> None:
        fresh = max(0, end - max(entry.start, request.high_water))
        self._switcher.counts.recomputed_tokens += len(entry.token_ids) - fresh
        request.high_water = max(request.high_water, end)
        prompt, decode = max(0, end - request.charged), int(entry.samples)
        request.charged = max(request.charged, end + decode)  # an answer's token is charged when it is sampled
        self._scheduler.accountant.charge(request, prompt, decode)

    def _broken_equation(self) -> str:
        pools = self._pools()
        order = [self._conversations.request(request_id) for request_id in self._placement.order]
        first = next(request for request in order if request.turn is not None)
        # its own clean blocks are among the clean ones, so it is asked for them again; a resident keeps what it holds
        need = first.blocks_needed + (first.device_blocks if first.state is RequestState.SWAPPED else 0)
        return (
            f"deadlock: request {first.request_id} ({first.state.value}) needs {need} blocks, but free {pools.free} + "
            f"clean {pools.clean} + vacating {pools.vacating} < {need} and nothing below it can leave"
        )

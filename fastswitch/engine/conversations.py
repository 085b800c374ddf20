"""Conversations and their turns: who has something to compute, and what comes next.

Ours. A conversation is one request for as long as it lives. Its history is what was submitted and what the engine
generated.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence, ValuesView

from fastswitch.engine.clock import Clock
from fastswitch.engine.request import Request, Turn
from fastswitch.memory import KVCacheManager
from fastswitch.sched import Accountant, RequestState

__all__ = ["Conversations"]


class Conversations:
    """The unfinished requests, and every turn ever submitted.

    Args:
        kv: where a conversation's KV is held.
        clock: time.
        max_context: tokens a conversation may have in all: the model's positions.
        accountant: told which turns come and end.
    """

    def __init__(self, kv: KVCacheManager, clock: Clock, max_context: int, accountant: Accountant) -> None:
        self._kv = kv
        self._clock = clock
        self._max_context = max_context
        self.accountant = accountant
        self._requests: dict[int, Request] = {}  # request_id |-> unfinished request
        self._by_conversation: dict[Hashable, Request] = {}
        self._turns: dict[int, Turn] = {}  # turn_id |-> turn
        self._newcomers: dict[int, Request] = {}  # request_id |-> request that the ranker has not seen
        self._suspended: set[int] = set()  # request_ids
        self._request_ids = itertools.count()
        self._turn_ids = itertools.count()
        self.num_ended_turns = 0
        self.changed = True  # placements made before are stale: somebody came, went, moved, or ran short
        self.reranked = True  # so is the ranking: somebody came, went or changed rank

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def requests(self) -> ValuesView[Request]:
        """The unfinished requests, in order of their first turn."""
        return self._requests.values()

    def request(self, request_id: int) -> Request:
        """An unfinished request by its id."""
        return self._requests[request_id]

    def of(self, request_ids: Iterable[int]) -> list[Request]:
        """Unfinished requests by their ids, in that order."""
        requests = self._requests
        return [requests[request_id] for request_id in request_ids]

    def turn(self, turn_id: int) -> Turn:
        """A turn by its id, ended ones included.

        Raises:
            KeyError: if there is no such turn.
        """
        try:
            return self._turns[turn_id]
        except KeyError:
            raise KeyError(f"turn {turn_id!r} is unknown") from None

    def live(self, turn_id: int) -> Request:
        """The unfinished request of a turn.

        Raises:
            KeyError: if there is no such turn, or its conversation has ended.
        """
        try:
            return self._requests[self.turn(turn_id).request_id]
        except KeyError:
            raise KeyError(f"the conversation of turn {turn_id!r} is unknown or has ended") from None

    def submit(
        self, tokens: Sequence[int], max_new_tokens: int, arrival: float, client_id: Hashable, conversation_id: Hashable
    ) -> tuple[Turn, Request]:
        """Enter a turn, making its conversation if need be; it starts when the turn before has ended.

        Raises:
            ValueError: if there is nothing to do, or it can never fit.
        """
        request = None if conversation_id is None else self._by_conversation.get(conversation_id)
        self._check(request, tokens, max_new_tokens)
        if request is None:
            request = self._open(client_id, conversation_id)
        turn = Turn(next(self._turn_ids), request.request_id, tokens, max_new_tokens, arrival)
        self._turns[turn.turn_id] = turn
        request.queued.append(turn)
        self._start_next_turn(request)
        return turn, request

    def end_turn(self, request: Request) -> None:
        """The running turn is over: the next one starts, or the conversation idles, or it ends."""
        if request.turn is None:
            return
        request.turn.ended = True
        self.num_ended_turns += 1
        self.accountant.ended(request)
        request.turn = None
        request.protected = False  # a cancelled turn will never make the step that it was protected for
        request.turn_ended = self._clock.now()
        self.rank_anew()
        if request.queued:
            self._start_next_turn(request)
        elif request.ending:
            self.finish(request)
        else:
            request.idle_since = request.turn_ended
            self._kv.finish_turn(request.request_id)
            if request.state in (RequestState.RUNNING, RequestState.WAITING):
                request.state = RequestState.IDLE

    def cancel(self, turn: Turn) -> None:
        """End a turn now, running or queued; nothing if it has ended."""
        if turn.ended:
            return
        request = self._requests[turn.request_id]
        if request.turn is turn:
            self.end_turn(request)
            return
        turn.ended = True
        self.num_ended_turns += 1
        request.queued.remove(turn)

    def end(self, conversation_id: Hashable) -> None:
        """End a conversation when its turns are over.

        Raises:
            KeyError: if there is no such conversation.
        """
        request = self._by_conversation.get(conversation_id)
        if request is None:
            raise KeyError(f"conversation {conversation_id!r} is unknown or has ended")
        request.ending = True
        if request.turn is None:
            self.finish(request)

    def finish(self, request: Request) -> None:
        """Forget a conversation and free its KV; what a copy under way holds follows when it ends."""
        request.state = RequestState.FINISHED
        self._kv.release(request.request_id)
        self._requests.pop(request.request_id)
        self._newcomers.pop(request.request_id, None)
        self._suspended.discard(request.request_id)
        self._by_conversation.pop(request.conversation_id, None)
        self.rank_anew()

    def rank_anew(self) -> None:
        """Somebody came, went or changed rank."""
        self.changed = self.reranked = True

    def newcomers(self) -> list[Request]:
        """The unfinished requests that came since this was asked last."""
        newcomers = list(self._newcomers.values())
        self._newcomers.clear()
        return newcomers

    @property
    def suspended(self) -> list[Request]:
        """The unfinished requests that are held off the device, in order of their first turn."""
        return [self._requests[request_id] for request_id in sorted(self._suspended)]

    def candidates(self) -> Iterable[Request]:
        """The unfinished requests that may have the device."""
        if not self._suspended:
            return self._requests.values()
        return [request for request in self._requests.values() if not request.suspended]

    def suspend(self, request: Request) -> None:
        """Hold it off the device."""
        if not request.suspended and request.turn is not None:
            self.accountant.suspended(request)
        request.suspended = True
        self._suspended.add(request.request_id)
        self.rank_anew()

    def resume(self, request: Request) -> None:
        """Let it have the device again."""
        if request.suspended and request.turn is not None:
            self.accountant.resumed(request)
        request.suspended = False
        self._suspended.discard(request.request_id)
        self.rank_anew()

    def wanting(self) -> Iterable[Request]:
        """Requests that have something to compute and may compute it."""
        return (request for request in self._requests.values() if request.turn is not None and not request.suspended)

    def _open(self, client_id: Hashable, conversation_id: Hashable) -> Request:
        request = Request(next(self._request_ids), conversation_id, client_id, self._kv, self._clock.now())
        request.ending = conversation_id is None
        self._kv.add(request.request_id)
        self._requests[request.request_id] = self._newcomers[request.request_id] = request
        if conversation_id is not None:
            self._by_conversation[conversation_id] = request
        return request

    def _start_next_turn(self, request: Request) -> None:
        if request.turn is not None:
            return
        turn = request.queued.popleft()
        turn.arrival = max(turn.arrival, request.turn_ended)
        request.start(turn)
        request.arrival = turn.arrival
        request.idle_since = None
        request.left_device = False
        self._kv.start_turn(request.request_id)
        if request.state is RequestState.IDLE:
            request.state = RequestState.WAITING
            if request.device_blocks:
                request.run()
        self.accountant.arrived(request)
        if request.suspended:
            self.accountant.suspended(request)
        self.rank_anew()

    def _check(self, request: Request | None, tokens: Sequence[int], max_new_tokens: int) -> None:
        if not tokens:
            raise ValueError("a turn needs at least 1 new token, got 0")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be positive, got {max_new_tokens}")
        total = len(tokens) + max_new_tokens
        if request is not None:
            open_turns = [*request.queued, *([request.turn] if request.turn else [])]
            total += request.num_tokens + sum(turn.max_new_tokens - len(turn.generated) for turn in open_turns)
            total += sum(len(turn.prompt) for turn in request.queued)
        if total > self._max_context:
            raise ValueError(
                f"the conversation would have {total} tokens, the model has {self._max_context} positions: shorten it"
            )
        need, have = -(-total // self._kv.block_size), self._kv.device.allocator.num_blocks
        if need > have:
            raise ValueError(
                f"the conversation needs {need} blocks ({total} tokens), the device pool has {have}: enlarge the pool"
            )

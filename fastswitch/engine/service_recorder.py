"""Writes down who is served, beside the accountant whose place it takes.

Ours. It passes everything on, so a policy that ranks by service notices nothing. It costs two additions a request and
iteration, and a row a client and iteration.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

import numpy as np

from fastswitch.engine.clock import Clock
from fastswitch.engine.service_record import ServiceRecord
from fastswitch.sched import Accountant, RequestState, RequestView

__all__ = ["ServiceRecorder"]


class ServiceRecorder(Accountant):
    """An accountant that keeps the record of another's charges.

    Args:
        accountant: is told all that this one is told.
        clock: the engine's.
    """

    def __init__(self, accountant: Accountant, clock: Clock) -> None:
        self._accountant = accountant
        self._clock = clock
        self._start_s = clock.now()
        self._position: dict[Hashable, int] = {}  # client_id |-> position in the record
        self._open: dict[int, dict[int, RequestView]] = {}  # position |-> {request_id |-> request with a turn}
        self._held_off: set[int] = set()  # request_ids of turns that are suspended
        self._backlogged: set[int] = set()  # positions, as written down last
        self._given: dict[int, list[int]] = {}  # position |-> prompt tokens, generated tokens of this iteration
        self._times_s, self._rows, self._queue = array("d"), array("q"), array("q")

    def arrived(self, request: RequestView) -> None:
        """A turn wants to be served."""
        position = self._position.setdefault(request.client_id, len(self._position))
        self._open.setdefault(position, {})[request.request_id] = request
        self._accountant.arrived(request)

    def admitted(self, request: RequestView, num_prompt_tokens: int) -> None:
        """Passed on."""
        self._accountant.admitted(request, num_prompt_tokens)

    def ended(self, request: RequestView) -> None:
        """It wants nothing any more."""
        position = self._position[request.client_id]
        del self._open[position][request.request_id]
        self._held_off.discard(request.request_id)
        self._accountant.ended(request)

    def suspended(self, request: RequestView) -> None:
        """One that its user holds off does not wait."""
        self._held_off.add(request.request_id)
        self._accountant.suspended(request)

    def resumed(self, request: RequestView) -> None:
        """It does again."""
        self._held_off.discard(request.request_id)
        self._accountant.resumed(request)

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """An iteration that ran gave it these tokens."""
        if not self._given:
            self._note_queue()
        position = self._position[request.client_id]
        given = self._given.get(position)
        if given is None:
            self._given[position] = [num_prefill_tokens, num_decode_tokens]
        else:
            given[0] += num_prefill_tokens
            given[1] += num_decode_tokens
        self._accountant.charge(request, num_prefill_tokens, num_decode_tokens)

    def end_step(self) -> None:
        """All that was charged since the last call was one iteration's; nothing if none ran."""
        if not self._given:
            return
        iteration = len(self._times_s)
        self._times_s.append(self._clock.now() - self._start_s)
        for position, (num_prefill_tokens, num_decode_tokens) in self._given.items():
            self._rows.extend((iteration, position, num_prefill_tokens, num_decode_tokens))
        self._given.clear()

    def record(self) -> ServiceRecord:
        """What was written down so far."""
        given, queue = np.array(self._rows, np.int64), np.array(self._queue, np.int64)
        times_s = np.array(self._times_s, np.float64)
        return ServiceRecord(tuple(self._position), times_s, given.reshape(-1, 4), queue.reshape(-1, 3))

    def _note_queue(self) -> None:
        """Who is backlogged while this iteration runs: turns that come at its end are not charged for it."""
        for position, requests in self._open.items():
            waits = any(self._waits(request) for request in reversed(requests.values()))  # the latest most probably
            if waits is not (position in self._backlogged):
                self._queue.extend((len(self._times_s), position, waits))
                self._backlogged ^= {position}

    def _waits(self, request: RequestView) -> bool:
        return request.state is not RequestState.RUNNING and request.request_id not in self._held_off

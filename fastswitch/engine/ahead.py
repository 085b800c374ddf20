"""Copies that are made before anybody needs them, while the link has nothing else to do.

Ours; the paper has neither.

- *Write-back*: residents that rank last are copied to the host and stay. When they are pushed out, little or nothing
  is left to copy, so their blocks are free at once.
- *Prefetch*: evicted requests that are about to be scheduled are copied to the device and stay evicted. When they are
  brought in nothing is left to copy, so they lose no iteration.

Who is about to come and to go is what the ranker knows of the next iteration (`Ranker.forecast`), else the order now.

What it may cost those who need the link or the room is bounded by about an iteration: a copy is begun only where the
direction has nothing under way, no larger than what the link carries during one, into blocks that nobody holds; and a
request that is being copied ahead neither leaves nor comes until that has landed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from fastswitch.engine.conversations import Conversations
from fastswitch.engine.placer import Placer
from fastswitch.engine.request import Request
from fastswitch.engine.switcher import Switcher
from fastswitch.memory import SwapDirection
from fastswitch.sched import Ranker, RequestState

__all__ = ["CopyAhead"]

LEAST_BLOCKS = 8  # of a request that goes on growing: a job has its price too
FIRST_BLOCKS = 16  # where it is not known what the link carries: at first, or because the engine has no rule
MOST_LOOKED_AT = 32  # of those who wait outside


class CopyAhead:
    """Begins copies ahead, once an iteration.

    Args:
        switcher: enacts them.
        placer: knows who is on the device.
        conversations: the requests.
        ranker: may know who is about to come.
    """

    def __init__(self, switcher: Switcher, placer: Placer, conversations: Conversations, ranker: Ranker) -> None:
        self._switcher = switcher
        self._kv = switcher.kv
        self._placer = placer
        self._conversations = conversations
        self._ranker = ranker

    def begin(self, executed_iterations: int) -> None:
        """Begin what the idle directions can carry while the next iteration runs.

        Args:
            executed_iterations: so far, that one not included.
        """
        writes, reads = (self._switcher.is_idle(direction) for direction in SwapDirection)
        if not (writes or reads):
            return
        coming = self._forecast(executed_iterations + 1)
        if reads:
            self._prefetch(coming)
        if writes:
            self._write_back(coming)

    def _forecast(self, executed_iterations: int) -> list[Request] | None:
        if not self._ranker.is_due(executed_iterations):
            return None
        active = [request for request in self._conversations.candidates() if request.turn is not None]
        order = self._ranker.forecast(active, executed_iterations)
        return None if order is None else self._conversations.of(request.request_id for request in order)

    def _write_back(self, coming: Sequence[Request] | None) -> None:
        budget = min(self._budget(SwapDirection.SWAP_OUT), self._kv.num_host_idle)
        for request in self._next_to_leave(coming):
            if budget < 1:
                return
            num_blocks = min(budget, self._worth_writing(request))
            if num_blocks > 0:
                budget -= self._switcher.write_back(request, num_blocks)

    def _next_to_leave(self, coming: Sequence[Request] | None) -> Iterator[Request]:
        """Residents, those first who will be pushed out first."""
        yield from reversed(self._placer.idle_residents)
        for request in reversed(self._placer.running if coming is None else coming):
            if request.state is RequestState.RUNNING:
                yield request

    def _worth_writing(self, request: Request) -> int:
        """Blocks that will not change any more; of one that grows none until there are some."""
        if request.turn is None:
            return request.dirty_blocks
        block_size = self._kv.block_size
        full = request.device_valid_len // block_size - request.host_valid_len // block_size
        return full if full >= LEAST_BLOCKS else 0

    def _prefetch(self, coming: Sequence[Request] | None) -> None:
        budget = self._budget(SwapDirection.SWAP_IN)
        if coming is None:
            room, candidates = self._kv.num_idle, self._next_outside()
        else:
            room, candidates = self._kv.num_free - len(self._placer.running), self._will_fit(coming)
        budget = min(budget, room)
        for request in candidates:
            if budget < 1:
                return
            if request.state is RequestState.SWAPPED and not request.pinned:
                budget -= self._switcher.prefetch(request, budget)

    def _next_outside(self) -> Iterable[Request]:
        """Those who wait for room, best first; where nobody does, evicted idle conversations, the latest first."""
        waiting = self._conversations.of(islice(self._placer.placement.iter_unplaced(), MOST_LOOKED_AT))
        return waiting or self._conversations.of(islice(self._placer.idle_outside(), MOST_LOOKED_AT))

    def _will_fit(self, coming: Sequence[Request]) -> Iterator[Request]:
        """Those of an order that the pool holds together."""
        left = self._kv.device.allocator.num_blocks
        for request in coming:
            left -= request.device_blocks + request.blocks_needed
            if left < 0:
                return
            yield request

    def _budget(self, direction: SwapDirection) -> int:
        carried = self._switcher.num_blocks_to_begin(direction)
        return FIRST_BLOCKS if carried is None else carried

"""Looks for hazards by bytes, in the order in which the compute stream would meet them, and says what was wrong."""

from __future__ import annotations

import numpy as np

from tests.engine.doubles import STAMPS
from tests.engine.stress_pools import Poison

__all__ = ["Arrival", "Hazards", "SwapHazardError"]


class SwapHazardError(AssertionError):
    """Bytes are not what they must be, or a promise was broken that would let them become so."""


class Arrival:
    """What some blocks must hold.

    Args:
        pool: a `StampedPool`.
        block_ids: ``[n]``.
        stamps: ``[num_tokens, STAMPS]``, at most what the blocks have room for.
    """

    def __init__(self, pool, block_ids, stamps):
        self.pool = pool
        self.block_ids = np.asarray(block_ids, np.int64)
        self.stamps = stamps


class Hazards:
    """Compares bytes as work of the compute stream; what is wrong is raised on the test's thread.

    Args:
        compute: enqueues work on the compute stream.
        block_size: tokens in a block.
    """

    def __init__(self, compute, block_size):
        self._compute = compute
        self._block_size = block_size
        self._names = []  # stamp // STAMPS |-> whose token
        self._found = []

    def new_stamps(self, request_id, start, num_tokens):
        """Stamps that nothing else has, for tokens ``start`` and up."""
        first = len(self._names)
        self._names.extend((request_id, token) for token in range(start, start + num_tokens))
        return np.arange(first * STAMPS, (first + num_tokens) * STAMPS).reshape(-1, STAMPS)

    def add(self, text):
        self._found.append(text)

    @property
    def first(self):
        return self._found[0] if self._found else None

    def raise_first(self):
        if self._found:
            raise SwapHazardError(self.first)

    def expect(self, arrival, when, flight=None):
        """The bytes are there for work that is enqueued from now on."""
        self._compute(lambda: self._compare(arrival, when, flight))

    def expect_poison(self, pool, block_ids):
        """Nobody has written to these blocks, which are free."""
        self._compute(lambda: self._compare_free(pool, block_ids))

    def _compare(self, arrival, when, flight):
        found = arrival.pool.read(arrival.block_ids, len(arrival.stamps))
        is_right = found == arrival.stamps
        if is_right.all():
            return
        wrong = np.flatnonzero(~is_right.all(axis=1))
        first = wrong[0]
        block_id, wanted = int(arrival.block_ids[first // self._block_size]), self._whose(arrival.stamps[first, 0])
        place = f"token {wanted[1]} of request {wanted[0]} in {arrival.pool.name} block {block_id}"
        if flight is None or (flight.copied and block_id in flight.pairs):
            flight = arrival.pool.written_by[block_id]  # it may have been right, and not have stayed so
        cause = _cause(flight, block_id)
        number = f"{len(wrong)} of {len(arrival.stamps)} tokens are wrong"
        self.add(f"{when}: {number}; {place} is {self._name(found[first][~is_right[first]][0], wanted)}{cause}")

    def _compare_free(self, pool, block_ids):
        for block_id in pool.not_poisoned(block_ids)[:1].tolist():
            flight = pool.written_by[block_id]
            self.add(f"{pool.name} block {block_id} is free, and somebody wrote to it; a copy did last: {flight}")

    def _whose(self, stamp):
        return self._names[stamp // STAMPS]

    def _name(self, value, wanted):
        if value < 0:
            return f"poison of a {Poison(value).name.lower().replace('_', ' ')}"
        if self._whose(value) == wanted:
            return "an earlier one"
        return "token {1} of request {0}".format(*self._whose(value))


def _cause(flight, block_id):
    """What of all that is known of the copy explains the wrong byte; nothing if nothing does."""
    if flight is None:
        return ""
    if not flight.enqueued:
        return f": {flight} has not begun to copy"
    if not flight.copied:
        return f": the copies of {flight} are enqueued and have not run"
    if flight.early_by:
        return f": {flight} copied before {flight.early_by} pieces of compute work that were enqueued before it"
    source = flight.pairs.get(block_id)
    if source is None:
        return f": {flight} copies its neighbours and not this block"
    if source in flight.lost_sources:
        return f": {flight} read block {source}, which had been given back"
    return f": {flight} copied it last"

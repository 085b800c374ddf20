"""What befalls requests but for copies: they grow, are forked, rolled back, and cancelled at any moment."""

from __future__ import annotations

import itertools

import numpy as np

from fastswitch.memory import OutOfBlocksError
from tests.engine.doubles import STAMPS
from tests.engine.stress_bed import BLOCK_SIZE

__all__ = ["MOST_TOKENS", "Request", "Requests"]

MOST_REQUESTS, MOST_TOKENS = 20, 24
NO_STAMPS = np.empty((0, STAMPS), np.int64)


class Request:
    """What the driver knows of one request: its tokens' stamps, and whether it may compute.

    Attributes:
        stamps: token index |-> stamps.
        resident: its KV is on the device and wanted there.
        flight: the copy that was begun for it and has not been reported.
    """

    def __init__(self, request_id, stamps=NO_STAMPS, *, resident=True):
        self.request_id = request_id
        self.stamps = stamps
        self.resident = resident
        self.flight = None


class Requests:
    """The requests of one bed, and what can be done to them at random.

    Args:
        bed: where they live.
        draws: chooses.
        counts: where cancellations are counted.

    Attributes:
        known: request_id |-> Request; those that were cancelled are not.
    """

    def __init__(self, bed, draws, counts):
        self.known = {}
        self._bed = bed
        self._kv = bed.kv
        self._draws = draws
        self._counts = counts
        self._request_ids = itertools.count()

    def pick(self, *, resident):
        """A request without a copy that is, or is not, on the device."""
        able = [r for r in self.known.values() if r.flight is None and r.resident == resident]
        return self._draws.choice(able) if able else None

    def add(self):
        if len(self.known) >= MOST_REQUESTS:
            return
        request = Request(next(self._request_ids))
        self._kv.add(request.request_id)
        self.known[request.request_id] = request
        self.grow(request)

    def fork(self):
        """As `add`, with what another request has; its own copy does not matter."""
        if len(self.known) >= MOST_REQUESTS or not self.known:
            return
        parent = self._draws.choice([*self.known.values()])
        if parent.flight is not None or self._kv.jobs(parent.request_id):
            return
        most = max(self._kv.device_valid_len(parent.request_id), self._kv.host_valid_len(parent.request_id))
        request_id = next(self._request_ids)
        shared = self._kv.fork(parent.request_id, request_id, self._draws.randint(0, most))
        self.known[request_id] = Request(request_id, parent.stamps[:shared], resident=parent.resident)

    def compute(self):
        request = self.pick(resident=True)
        if request is None:
            self.add()
        else:
            self.grow(request)

    def grow(self, request):
        """The model writes the KV of a few tokens."""
        request_id = request.request_id
        start = self._kv.device_valid_len(request_id)
        end = min(start + self._draws.randint(1, 8), MOST_TOKENS)
        try:
            self._kv.grow(request_id, end + self._draws.choice([0, 0, 3]))
        except OutOfBlocksError:
            return
        new = self._bed.hazards.new_stamps(request_id, start, end - start)
        request.stamps = np.concatenate([request.stamps[:start], new])
        table = self._kv.block_table(request_id)
        self._bed.compute(lambda: self._bed.device.write(table, start, new))
        self._kv.commit(request_id, end)

    def roll_back(self):
        request = self.pick(resident=self._draws.random() < 0.7)
        if request is None or self._kv.jobs(request.request_id):
            return
        num_tokens = self._draws.randint(0, len(request.stamps))
        self._kv.rollback(request.request_id, num_tokens)
        request.stamps = request.stamps[:num_tokens]

    def turn(self):
        if self.known:
            request_id = self._draws.choice([*self.known])
            self._draws.choice([self._kv.finish_turn, self._kv.start_turn])(request_id)

    def prefer(self):
        self._kv.prefer(self._draws.sample([*self.known], len(self.known) // 2))

    def starve(self):
        """Somebody needs the room of everyone who is clean, and ends at once."""
        if self._kv.num_free + self._kv.num_clean:
            self._kv.add("hungry")
            self._kv.grow("hungry", (self._kv.num_free + self._kv.num_clean) * BLOCK_SIZE)
            self._kv.release("hungry")

    def cancel(self):
        """In any state, also in the middle of a copy."""
        if self.known:
            self.release(self._draws.choice([*self.known]))

    def release(self, request_id):
        self._kv.release(request_id)
        if self.known.pop(request_id).flight is not None:
            self._counts["cancel in a copy"] += 1
        self._counts["cancel"] += 1

    def drop(self, request):
        """It is computed again."""
        self._kv.drop(request.request_id)
        request.resident = True

    def drop_one(self):
        """Also one that is being copied ahead."""
        request = self.pick(resident=self._draws.random() < 0.5)
        if request is not None:
            self.drop(request)

    def expect_kv(self, request, when):
        self._bed.expect_kv(request.request_id, request.stamps, when)

    def look_at_one(self):
        if self.known:
            self.look_at(self._draws.choice([*self.known.values()]))

    def look_at(self, request):
        self.expect_kv(request, f"request {request.request_id} is looked at")

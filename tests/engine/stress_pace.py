"""How far copies and streams have come: nothing goes on before it is let, at random or because somebody will wait."""

from __future__ import annotations

from collections import Counter

from fastswitch.memory import SwapDirection
from tests.engine.stress_copies import Fate

__all__ = ["Pace"]


class Pace:
    """Opens the doors of a bed's copies, and lets its lazy streams run.

    Args:
        bed: whose.
        draws: chooses.

    Attributes:
        num_taken: direction |-> jobs that its thread was given.
    """

    def __init__(self, bed, draws):
        self.num_taken = Counter()
        self._copies = bed.copies
        self._streams = bed.streams
        self._draws = draws

    def take(self, flight):
        """The job was given to its thread; mostly its copy may start at once, and all before it."""
        direction = flight.job.direction
        self.num_taken[direction] += 1
        if self._draws.random() < 0.7:
            self._copies.starts[direction].open(flight.number + 1)

    def let_start(self):
        """Some copies that stood still start."""
        self._open(self._copies.starts)

    def let_end(self):
        """Some threads may see the end of the copies that they enqueued, which makes lazy streams run them."""
        self._open(self._copies.ends)

    def go_on(self):
        """The device runs some of what one of its streams holds."""
        stream = self._draws.choice([self._streams.compute, self._streams.swap_out, self._streams.swap_in])
        most = stream.record().position
        stream.force(min(most, stream.num_done + self._draws.randint(1, 20)))

    def let_all_before(self, flight, in_flight):
        """What was submitted before the flight may start and end; it may start. Then it can be waited for.

        A copy that raises cannot be waited for before its thread has seen the end of it.
        """
        for other in in_flight:
            if other.job.job_id <= flight.job.job_id:
                direction, ends_too = other.job.direction, other is not flight or flight.fate is not Fate.WELL
                self._copies.starts[direction].open(other.number + 1)
                self._copies.ends[direction].open(other.number + ends_too)

    def let_all(self):
        """All copies may start and end."""
        for direction, num_taken in self.num_taken.items():
            self._copies.starts[direction].open(num_taken)
            self._copies.ends[direction].open(num_taken)

    def _open(self, doors):
        direction = self._draws.choice([*SwapDirection])
        door = doors[direction]
        door.open(min(self.num_taken[direction], door.open_to + self._draws.randint(1, 4)))

"""One step's residency decision, as a value: who leaves, who comes, who waits. `residency` makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fastswitch.sched.roles import EvictionWay

__all__ = ["Eviction", "Placement"]


@dataclass(frozen=True, slots=True)
class Eviction:
    """One request leaves the device, and how."""

    request_id: int
    way: EvictionWay


@dataclass(frozen=True, slots=True)
class Placement:
    """One step's residency decision; request ids throughout.

    Attributes:
        order: everyone, best first: those with something to compute, then idle ones, longest idle last.
        num_active: how many of them have something to compute.
        evictions: who leaves.
        swap_ins: evicted requests whose room can be had now, best first.
        early: evicted ones with something to copy whose room is being vacated, best first: their copies must come after
            those that vacate it. They take what nobody else was given, so they are to be brought in last.
        admissions: waiting requests whose room can be had now, best first.
        sitting_out: residents that cannot grow yet.
        passed_over: requests that wait for room which is promised to them.
        num_walked: of those with something to compute, how many were given the room that there is: the next one, if it
            is outside, found none and blocked all who are outside behind it.
        settled: those with something to compute that were on the device or on their way in, so that they need not wait.
    """

    order: tuple[int, ...]
    num_active: int
    evictions: tuple[Eviction, ...]
    swap_ins: tuple[int, ...]
    early: tuple[int, ...]
    admissions: tuple[int, ...]
    sitting_out: frozenset[int]
    passed_over: tuple[int, ...]
    num_walked: int
    settled: frozenset[int]

    @property
    def unplaced(self) -> tuple[int, ...]:
        """Requests that want memory and have to wait for it to be vacated, best first. O(their number)."""
        return tuple(self.iter_unplaced())

    def iter_unplaced(self) -> Iterator[int]:
        """As ``unplaced``, one at a time."""
        yield from self.passed_over
        yield from self._blocked()

    @property
    def leaves_waiting(self) -> bool:
        """Whether anybody is unplaced. O(residents)."""
        return bool(self.passed_over) or any(True for _ in self._blocked())

    def _blocked(self) -> Iterator[int]:
        behind = islice(self.order, self.num_walked, self.num_active)
        return (request_id for request_id in behind if request_id not in self.settled)

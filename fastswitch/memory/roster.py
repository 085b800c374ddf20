"""Which requests are known, which segments exist, and who holds which.

Ours. A released request is forgotten at once; a segment that nobody holds any more exists as long as a copy of it runs.
Invariants, asserted by `Roster.check_invariants`:
1. Segment and holder name each other, and every segment of a known request exists.
2. All segments of a request but the last are sealed, with whole blocks; the last one is its own.
3. A segment without holders has a job.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import NoReturn

from fastswitch.memory.segment import Holder, Segment

__all__ = ["Roster", "UnknownRequestError"]


class UnknownRequestError(KeyError):
    """The manager has never heard of this request, or has already released it."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message should read as one.
        return f"request {self.args[0]!r} is unknown: add it first"


class _Holders(dict[Hashable, Holder]):
    def __missing__(self, request_id: Hashable) -> NoReturn:
        raise UnknownRequestError(request_id)


class Roster:
    """The requests and their segments.

    >>> roster = Roster()
    >>> prefix = roster.add("a").own
    >>> tail = roster.split(prefix, 32)
    >>> fork = roster.add("b", [prefix])
    >>> [[s.segment_id for s in holder.segments] for holder in roster.holders.values()]
    [[('a', 0), ('a', 1)], [('a', 0), ('b', 2)]]

    Attributes:
        holders: request_id |-> what is known of it.
        segments: segment_id |-> segment, those included that nobody holds any more.
    """

    def __init__(self) -> None:
        self.holders: dict[Hashable, Holder] = _Holders()
        self.segments: dict[Hashable, Segment] = {}
        self._serials = itertools.count()

    def of(self, request_id: Hashable) -> Holder:
        """A known request.

        Raises:
            UnknownRequestError: if it is unknown.
        """
        return self.holders[request_id]

    def expect(self, request_id: Hashable, *, resident: bool | None = None) -> Holder:
        """A known request for which no copy is under way.

        Raises:
            UnknownRequestError: if it is unknown.
            ValueError: if a copy is under way, or the request is not as ``resident`` says.
        """
        holder = self.holders[request_id]
        if holder.job is not None:
            raise _busy(request_id, holder.job.job_id)
        if resident is not None and holder.resident is not resident:
            raise ValueError(f"request {request_id!r} is {'resident' if holder.resident else 'evicted'}")
        return holder

    def expect_unknown(self, request_id: Hashable) -> None:
        """Refuse a name that is taken.

        Raises:
            ValueError: if it is known already.
        """
        if request_id in self.holders:
            raise ValueError(f"request {request_id!r} is known already")

    def add(self, request_id: Hashable, prefix: Iterable[Segment] = ()) -> Holder:
        """Make a request known that reads ``prefix`` and then an empty segment of its own.

        Raises:
            ValueError: if it is known already.
        """
        self.expect_unknown(request_id)
        holder = self.holders[request_id] = Holder(request_id)
        for segment in prefix:
            self._take(holder, segment)
        self.take_new(holder)
        return holder

    def leave(self, holder: Holder, segments: Iterable[Segment]) -> None:
        """The holder reads these no longer; they exist on until `forget`."""
        gone = list(segments)
        for segment in gone:
            segment.holders.remove(holder)
        holder.segments = tuple(segment for segment in holder.segments if segment not in gone)

    def take_new(self, holder: Holder) -> None:
        """Give the holder a new, empty segment of its own."""
        self._take(holder, self._new(holder.request_id))

    def forget(self, segment: Segment) -> None:
        """The segment exists no longer."""
        del self.segments[segment.segment_id]

    def split(self, segment: Segment, num_tokens: int) -> Segment:
        """Seal the segment at ``num_tokens`` tokens; the rest is a new segment behind it, with the same holders.

        Raises:
            ValueError: if a copy of the segment is under way.
        """
        first = segment.holders[0]
        if segment.job is not None:
            raise _busy(segment.job.request_id, segment.job.job_id)
        tail = self._new(first.request_id)
        tail.holders = list(segment.holders)
        tail.num_tokens = None if segment.num_tokens is None else segment.num_tokens - num_tokens
        segment.num_tokens = num_tokens
        for holder in segment.holders:
            at = holder.segments.index(segment) + 1
            holder.segments = (*holder.segments[:at], tail, *holder.segments[at:])
        return tail

    def check_invariants(self, block_size: int) -> None:
        """Assert the module's invariants.

        Raises:
            AssertionError: if the roster is inconsistent, which is a bug of ours.
        """
        for request_id, holder in self.holders.items():
            assert holder.request_id == request_id, f"{request_id!r} is known as {holder.request_id!r}"
            for segment in holder.segments:
                assert self.segments.get(segment.segment_id) is segment, f"{segment.segment_id!r} does not exist"
                assert segment.holders.count(holder) == 1, f"{segment.segment_id!r} does not know {request_id!r}"
            assert holder.own.holders == [holder], f"{holder.own.segment_id!r} is not {request_id!r}'s own"
            sealed = [segment.num_tokens for segment in holder.segments]
            assert sealed.pop() is None, f"{holder.own.segment_id!r} is sealed"
            assert all(n and n % block_size == 0 for n in sealed), f"{request_id!r} reads segments of {sealed} tokens"
        for segment in self.segments.values():
            assert segment.holders or segment.job is not None, f"{segment.segment_id!r} has neither holder nor job"
            for holder in segment.holders:
                assert self.holders.get(holder.request_id) is holder, f"{holder.request_id!r} is released, and reads"

    def _take(self, holder: Holder, segment: Segment) -> None:
        segment.holders.append(holder)
        holder.segments = (*holder.segments, segment)

    def _new(self, request_id: Hashable) -> Segment:
        segment = Segment((request_id, next(self._serials)))
        self.segments[segment.segment_id] = segment
        return segment


def _busy(request_id: Hashable, job_id: int) -> ValueError:
    return ValueError(f"request {request_id!r} has job {job_id} under way: land or abort it first")

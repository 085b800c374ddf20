"""Which requests are known, where their segments stand, and who has left without being gone.

Ours. A released request whose copy still runs is *leaving*: nobody knows it any more, its blocks stay until the job
ends.
Invariants, asserted by `Roster.check_invariants`:
1. ``evicted`` holds exactly the known segments that are not resident.
2. A leaving segment has a job, and is not known.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fastswitch.memory.segment import Segment

__all__ = ["Roster"]


class Roster:
    """The segments of every request.

    >>> roster = Roster()
    >>> roster.add("a")
    >>> [segment.segment_id for segment in roster.expect("a", resident=True)]
    ['a']

    Attributes:
        evicted: segment_id |-> segment that may still hold device blocks.
        leaving: segment_id |-> segment of a released request whose job still runs.
    """

    def __init__(self) -> None:
        self.evicted: dict[Hashable, Segment] = {}
        self.leaving: dict[Hashable, Segment] = {}
        self._segments: dict[Hashable, tuple[Segment, ...]] = {}  # request_id |-> segments, in token order

    @property
    def known(self) -> list[Segment]:
        """The segments of all known requests, in O(n)."""
        return [segment for segments in self._segments.values() for segment in segments]

    @property
    def moving_out(self) -> list[Segment]:
        """Segments whose device blocks nobody will want when the copy under way ends."""
        return [s for s in (*self.evicted.values(), *self.leaving.values()) if s.job is not None]

    def add(self, request_id: Hashable) -> None:
        """Make a request with one empty, resident segment known.

        Raises:
            ValueError: if it is known already, or a copy of its namesake still runs.
        """
        if request_id in self._segments:
            raise ValueError(f"request {request_id!r} is known already")
        if request_id in self.leaving:
            raise ValueError(f"request {request_id!r} was released with a job under way: land or abort it first")
        self._segments[request_id] = (Segment(request_id),)

    def __contains__(self, request_id: Hashable) -> bool:
        return request_id in self._segments

    def of(self, request_id: Hashable) -> tuple[Segment, ...]:
        """The request's segments, in token order.

        Raises:
            KeyError: if it is unknown.
        """
        try:
            return self._segments[request_id]
        except KeyError:
            raise KeyError(f"request {request_id!r} is unknown: add it first") from None

    def expect(self, request_id: Hashable, *, resident: bool | None = None) -> tuple[Segment, ...]:
        """The segments of a request of which no copy is under way.

        Raises:
            KeyError: if it is unknown.
            ValueError: if a copy is under way, or the request is not as ``resident`` says.
        """
        segments = self.of(request_id)
        for segment in segments:
            if segment.job is not None:
                job_id = segment.job.job_id
                raise ValueError(f"request {request_id!r} has job {job_id} under way: land or abort it first")
            if resident is not None and segment.resident is not resident:
                raise ValueError(f"request {request_id!r} is {'resident' if segment.resident else 'evicted'}")
        return segments

    def evict(self, segment: Segment) -> None:
        """Its request no longer wants it on the device. Nothing if it is leaving: nobody wants it anywhere."""
        segment.resident = False
        if segment.segment_id not in self.leaving:
            self.evicted[segment.segment_id] = segment

    def bring_back(self, segment: Segment) -> None:
        """Its request wants it on the device."""
        segment.resident = True
        self.evicted.pop(segment.segment_id, None)

    def remove(self, request_id: Hashable) -> list[Segment]:
        """Forget a request; return those of its segments that nothing holds up. The others are leaving now.

        Raises:
            KeyError: if it is unknown.
        """
        segments = self.of(request_id)
        del self._segments[request_id]
        for segment in segments:
            self.evicted.pop(segment.segment_id, None)
        self.leaving |= {segment.segment_id: segment for segment in segments if segment.job is not None}
        return [segment for segment in segments if segment.job is None]

    def part_with(self, segments: Sequence[Segment]) -> list[Segment]:
        """Those of ``segments``, whose job has just ended, that were leaving: nothing holds them up any more."""
        return [segment for segment in segments if self.leaving.pop(segment.segment_id, None) is not None]

    def check_invariants(self) -> None:
        """Assert the module's invariants.

        Raises:
            AssertionError: if the roster is inconsistent, which is a bug of ours.
        """
        absent = {segment.segment_id for segment in self.known if not segment.resident}
        assert self.evicted.keys() == absent, f"evicted {set(self.evicted)} != not resident {absent}"
        for segment in self.leaving.values():
            assert segment.job is not None, f"{segment.segment_id!r} is released and has no job, and is not freed"
            assert segment not in self.known, f"{segment.segment_id!r} is released and known"

"""Writes the schedule down as it is enacted. Ours; one object an iteration, kept until the log goes."""

from __future__ import annotations

from fastswitch.sched import Decision, EvictionWay, SchedulerOutput

__all__ = ["DecisionLog"]


class DecisionLog:
    """Collects `Decision` after `Decision`.

    Attributes:
        decisions: of the iterations that ran since the log was begun.
    """

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self._evicted: list[tuple[int, str]] = []
        self._swapped_in: list[int] = []
        self._admitted: list[int] = []

    def evicted(self, request_id: int, way: EvictionWay) -> None:
        """Somebody was pushed out."""
        self._evicted.append((request_id, way.value))

    def came_in(self, request_id: int, *, swapped: bool) -> None:
        """Somebody came in: from the host, or with nothing."""
        (self._swapped_in if swapped else self._admitted).append(request_id)

    def packed(self, iteration: int, ranked: tuple[int, ...], output: SchedulerOutput) -> None:
        """That was all before the iteration that computes these tokens."""
        parts = tuple(self._evicted), tuple(self._swapped_in), tuple(self._admitted)
        packed = tuple((entry.request_id, entry.start, entry.num_tokens) for entry in output.scheduled)
        self.decisions.append(Decision(iteration, ranked, *parts, packed))
        self._evicted, self._swapped_in, self._admitted = [], [], []

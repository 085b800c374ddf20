"""A schedule as data: what was decided in each iteration, a line of JSON each, and where two schedules part.

Ours. A schedule is what was enacted: two policies that give the same one are the same, whatever they reckon with. So a
policy can be tested against a schedule worked by hand, and a change of the scheduler against the schedules before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from typing import Any

__all__ = ["Decision", "first_difference"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What happened from the end of one iteration to the end of the next; request ids throughout.

    Attributes:
        iteration: which one, from 0.
        ranked: everyone, best first; idle conversations last.
        evicted: (request, way) of those pushed out, in that order; the way as `EvictionWay` has it.
        swapped_in: those whose copies back were begun, or who came back without one.
        admitted: those who came in with nothing on either tier.
        packed: (request, tokens whose KV is there, tokens computed), in the order of the batch.

    >>> line = Decision(0, (1, 0), ((0, "swap_out"),), (), (1,), ((1, 0, 8),)).to_json()
    >>> Decision.from_json(line).packed
    ((1, 0, 8),)
    """

    iteration: int
    ranked: tuple[int, ...]
    evicted: tuple[tuple[int, str], ...]
    swapped_in: tuple[int, ...]
    admitted: tuple[int, ...]
    packed: tuple[tuple[int, int, int], ...]

    def to_json(self, **more: Any) -> str:
        """One line without its end; ``more`` comes first."""
        return json.dumps({**more, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Decision:
        """What ``to_json`` wrote; what came on top is left out.

        Raises:
            ValueError: if it is no such line, in one line.
        """
        try:
            found = json.loads(line)
            return cls(**{field.name: _as_tuple(found[field.name]) for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not a decision: {type(error).__name__} {error} in {line[:60]!r}") from None


def first_difference(one: Iterable[Decision], other: Iterable[Decision]) -> str | None:
    """Where two schedules part, for people; None if they are the same. Reads no further.

    >>> runs = ((0, 0, 1), (0, 0, 2))  # whose token each iteration computes
    >>> one, other = ([Decision(i, (1, 0), (), (), (), ((who, 8, 1),)) for i, who in enumerate(run)] for run in runs)
    >>> first_difference(one, one), first_difference(one, other)[:14]
    (None, 'step 2, packed')
    """
    for step, (left, right) in enumerate(zip_longest(one, other)):
        if left is None or right is None:
            longer = "other" if left is None else "one"
            return f"step {step}: only the {longer} schedule goes on"
        for field in fields(Decision):
            here, there = getattr(left, field.name), getattr(right, field.name)
            if here != there:
                return f"step {step}, {field.name}: {here} in the one schedule, {there} in the other"
    return None


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(each) for each in value) if isinstance(value, list) else value

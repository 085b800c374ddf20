"""What happened when in one run: iterations, stalls and switches, as values that another process may send.

Ours. Iterations and stalls are of the engine's thread, so none of them overlaps another; copies of one direction do not
overlap each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fastswitch.engine.switch_record import SwitchRecord

__all__ = ["Iteration", "Stall", "Timeline"]


class Iteration(NamedTuple):
    """A batch that was computed."""

    start_s: float
    """When the executor was given it."""
    end_s: float
    """When it gave it back."""
    num_requests: int
    """Requests in it."""
    num_tokens: int
    """Tokens in it; more than requests where a prompt is among them."""


class Stall(NamedTuple):
    """The engine stood still for a copy."""

    start_s: float
    """When the engine began to wait."""
    end_s: float
    """When it went on."""
    request_id: int | None
    """Whose copy it waited for; None: for any, because nobody who wanted to run could."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One run.

    Attributes:
        iterations, stalls: in order.
        switches: in the order in which their copies began.
    """

    iterations: tuple[Iteration, ...]
    stalls: tuple[Stall, ...]
    switches: tuple[SwitchRecord, ...]

"""What the engine asks of a rule that says, copy by copy, whether the running batch goes on or waits.

Ours. ``AdaptiveSwap`` decides by what it has seen; the fixed rules are what it is compared with.
"""

from __future__ import annotations

import enum
from typing import Protocol

from fastswitch.memory import SwapDirection

__all__ = ["SwapMode", "SwapRule"]


class SwapMode(enum.Enum):
    """What the engine does while a copy is under way."""

    OVERLAP = "overlap"
    WAIT = "wait"


class SwapRule(Protocol):
    """Told of iterations and copies, asked at each copy. Called from the engine's thread alone."""

    def observe_iteration(self, seconds: float, num_ready: int) -> None:
        """The last iteration took this long; so many requests were ready for it, be it that not all were packed."""

    def observe_copy(self, direction: SwapDirection, num_blocks: int, seconds: float) -> None:
        """The copies of ``num_blocks`` blocks took ``seconds``, the time in the queue left out."""

    def choose(self, direction: SwapDirection, num_blocks: int) -> SwapMode:
        """Overlap the copy, or wait for it.

        Args:
            direction: whose thread the copies are queued at.
            num_blocks: blocks of the copy in question and of all that are queued before it.
        """

    def num_blocks_to_begin(self, direction: SwapDirection, num_queued: int) -> int | None:
        """Blocks that are worth queueing behind ``num_queued``; None: any number."""

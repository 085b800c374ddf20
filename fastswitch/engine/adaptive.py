"""Overlap a copy with the running batch, or wait for it?

Paper: FastSwitch (arXiv 2411.18424) chooses per iteration between asynchronous and synchronous swap-in from recent swap
       activity: with few, short requests waiting and running the bigger batch wins.
Ours:  the rule, and that it holds for swap-outs too. A landing is seen at the next iteration, so overlapping costs the
       request that comes in, or that waits for the room, at least one; waiting costs the batch the copy. Wait when
       the expected copy, with all that is queued before it, is shorter than a quarter of the last iteration.
"""

from __future__ import annotations

import enum

from fastswitch.memory import SwapDirection

__all__ = ["AdaptiveSwap", "SwapMode"]

WAIT_FRACTION = 0.25  # of an iteration; a starting rule, not measured
SMOOTHING = 0.2  # weight of the newest copy in the running average


class SwapMode(enum.Enum):
    """What the engine does while a copy is under way."""

    OVERLAP = "overlap"
    WAIT = "wait"


class AdaptiveSwap:
    """Decides from running averages, one a direction.

    >>> adaptive, direction = AdaptiveSwap(), SwapDirection.SWAP_IN
    >>> adaptive.observe_iteration(0.020)
    >>> adaptive.observe_copy(direction, num_blocks=10, seconds=0.010)
    >>> adaptive.choose(direction, num_blocks=4), adaptive.choose(direction, num_blocks=6)
    (<SwapMode.WAIT: 'wait'>, <SwapMode.OVERLAP: 'overlap'>)
    """

    def __init__(self) -> None:
        self._seconds_per_block = dict.fromkeys(SwapDirection, 0.0)
        self._iteration_s = 0.0

    def observe_iteration(self, seconds: float) -> None:
        """The last iteration took this long."""
        self._iteration_s = seconds

    def observe_copy(self, direction: SwapDirection, num_blocks: int, seconds: float) -> None:
        """The copies of ``num_blocks`` blocks took ``seconds``, the time in the queue left out."""
        if num_blocks:
            newest = seconds / num_blocks
            known = self._seconds_per_block[direction] or newest
            self._seconds_per_block[direction] = known + SMOOTHING * (newest - known)

    def choose(self, direction: SwapDirection, num_blocks: int) -> SwapMode:
        """Wait when the expected copies are short; before anything was observed: wait.

        Args:
            direction: whose thread they are queued at.
            num_blocks: blocks of the copy in question and of all that are queued before it.
        """
        expected_s = num_blocks * self._seconds_per_block[direction]
        return SwapMode.WAIT if expected_s <= WAIT_FRACTION * self._iteration_s else SwapMode.OVERLAP

"""Overlap a swap-in with the running batch, or wait for it?

Paper: FastSwitch (arXiv 2411.18424) chooses per iteration from recent swap activity: with few, short requests waiting
       and running the bigger batch wins.
Ours:  the rule. A landing is seen at the next iteration, so overlapping costs the request at least one; waiting costs
       the batch the copy. Wait when the expected copy is shorter than a quarter of the last iteration.
"""

from __future__ import annotations

import enum

__all__ = ["AdaptiveSwapIn", "SwapInMode"]

WAIT_FRACTION = 0.25  # of an iteration; a starting rule, not measured
SMOOTHING = 0.2  # weight of the newest copy in the running average


class SwapInMode(enum.Enum):
    """What the engine does while a swap-in is under way."""

    OVERLAP = "overlap"
    WAIT = "wait"


class AdaptiveSwapIn:
    """Decides from running averages.

    >>> adaptive = AdaptiveSwapIn()
    >>> adaptive.observe_iteration(0.020)
    >>> adaptive.observe_copy(num_blocks=10, seconds=0.010)
    >>> adaptive.choose(num_blocks=4), adaptive.choose(num_blocks=6)
    (<SwapInMode.WAIT: 'wait'>, <SwapInMode.OVERLAP: 'overlap'>)
    """

    def __init__(self) -> None:
        self._seconds_per_block = 0.0
        self._iteration_s = 0.0

    def observe_iteration(self, seconds: float) -> None:
        """The last iteration took this long."""
        self._iteration_s = seconds

    def observe_copy(self, num_blocks: int, seconds: float) -> None:
        """A swap-in of ``num_blocks`` blocks took ``seconds``, its time in the queue included."""
        if num_blocks:
            newest = seconds / num_blocks
            known = self._seconds_per_block or newest
            self._seconds_per_block = known + SMOOTHING * (newest - known)

    def choose(self, num_blocks: int) -> SwapInMode:
        """Wait when the expected copy is short; before anything was observed: wait."""
        expected_s = num_blocks * self._seconds_per_block
        return SwapInMode.WAIT if expected_s <= WAIT_FRACTION * self._iteration_s else SwapInMode.OVERLAP

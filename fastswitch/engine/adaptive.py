"""Overlap a copy with the running batch, or wait for it? And how many may begin at once?

Paper: FastSwitch (arXiv 2411.18424) chooses per iteration between asynchronous and synchronous swap-in from recent swap
       activity: with few, short requests waiting and running the bigger batch wins.
Ours:  both rules, and that the first holds for swap-outs too.

1. *Wait* when it costs less. A landing is seen at the next iteration, so overlapping costs the request that comes in,
   or that waits for the room, an iteration; waiting costs everybody who is ready the copy, with all that is queued
   before it. So wait when (ready requests + 1) x copy <= iteration.
2. *Pace*: begin no more swap-ins than the link carries during an iteration. One that would only stand in the queue
   needs no room yet, and whoever it would push out runs on meanwhile.

`benchmarks/where_time_goes.py` measures what is lost, `benchmarks/overlap_or_wait.py` compares the rules with none;
docs/design.md has what each is worth.
"""

from __future__ import annotations

from fastswitch.engine.swap_rule import SwapMode
from fastswitch.memory import SwapDirection

__all__ = ["AdaptiveSwap"]

SMOOTHING = 0.2  # weight of the newest copy in the running average


class AdaptiveSwap:
    """Decides from the last iteration and a running average of what a block takes, one a direction.

    >>> adaptive, direction = AdaptiveSwap(), SwapDirection.SWAP_IN
    >>> adaptive.observe_iteration(0.020, num_ready=3)
    >>> adaptive.observe_copy(direction, num_blocks=10, seconds=0.010)
    >>> adaptive.choose(direction, num_blocks=4), adaptive.choose(direction, num_blocks=6)
    (<SwapMode.WAIT: 'wait'>, <SwapMode.OVERLAP: 'overlap'>)
    >>> adaptive.num_blocks_to_begin(direction, num_queued=15)
    5
    """

    def __init__(self) -> None:
        self._seconds_per_block = dict.fromkeys(SwapDirection, 0.0)
        self._iteration_s = 0.0
        self._num_ready = 0

    def observe_iteration(self, seconds: float, num_ready: int) -> None:
        """The last iteration took this long; so many requests were ready for it, be it that not all were packed."""
        self._iteration_s = seconds
        self._num_ready = num_ready

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
        return SwapMode.WAIT if (self._num_ready + 1) * expected_s <= self._iteration_s else SwapMode.OVERLAP

    def num_blocks_to_begin(self, direction: SwapDirection, num_queued: int) -> int | None:
        """Blocks that are worth queueing behind ``num_queued``: what is copied during an iteration.

        At least 1 where nothing is queued; None, any number, before anything was observed.
        """
        seconds_per_block = self._seconds_per_block[direction]
        if not (seconds_per_block and self._iteration_s):
            return None
        return max(0, max(1, int(self._iteration_s / seconds_per_block)) - num_queued)

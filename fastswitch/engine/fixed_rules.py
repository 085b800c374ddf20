"""Rules that look at nothing: every copy is overlapped, or every copy is waited for.

Ours, and baselines: neither paces, so each begins all that the scheduler would bring in.
`benchmarks/overlap_or_wait.py` compares them with ``AdaptiveSwap``.
"""

from __future__ import annotations

from fastswitch.engine.swap_rule import SwapMode
from fastswitch.memory import SwapDirection

__all__ = ["AlwaysOverlap", "AlwaysWait"]


class AlwaysOverlap:
    """The batch goes on beside every copy.

    >>> AlwaysOverlap().choose(SwapDirection.SWAP_IN, num_blocks=1)
    <SwapMode.OVERLAP: 'overlap'>
    """

    def observe_iteration(self, seconds: float, num_ready: int) -> None:
        """Of no interest."""

    def observe_copy(self, direction: SwapDirection, num_blocks: int, seconds: float) -> None:
        """Of no interest."""

    def choose(self, direction: SwapDirection, num_blocks: int) -> SwapMode:  # noqa: ARG002 - the protocol names them
        """Overlap."""
        return SwapMode.OVERLAP

    def num_blocks_to_begin(self, direction: SwapDirection, num_queued: int) -> int | None:  # noqa: ARG002
        """Any number."""
        return None


class AlwaysWait:
    """The batch stands still for every copy; copies of both directions still run beside each other.

    >>> AlwaysWait().choose(SwapDirection.SWAP_IN, num_blocks=10**6)
    <SwapMode.WAIT: 'wait'>
    """

    def observe_iteration(self, seconds: float, num_ready: int) -> None:
        """Of no interest."""

    def observe_copy(self, direction: SwapDirection, num_blocks: int, seconds: float) -> None:
        """Of no interest."""

    def choose(self, direction: SwapDirection, num_blocks: int) -> SwapMode:  # noqa: ARG002
        """Wait."""
        return SwapMode.WAIT

    def num_blocks_to_begin(self, direction: SwapDirection, num_queued: int) -> int | None:  # noqa: ARG002
        """Any number."""
        return None

"""Device blocks on their way out of use: how many are clean, how many become so when copies under way land.

Ours. Both are asked about at each placement and change only when a request's state does; what residents take and write
counts for neither. So they are counted when somebody asks and kept until `stale` is called.
Invariant, asserted by `Leaving.check_invariants`: what is kept equals a recount.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fastswitch.memory.segment import Segment
from fastswitch.memory.tier import Tier

__all__ = ["Leaving"]


class Leaving:
    """Counts the blocks of segments that nobody resident reads.

    Args:
        device: the device's copies.
        segments: those that hold blocks there.
        clean_blocks: of some segments, the blocks that can be given back at once.
    """

    def __init__(
        self,
        device: Tier,
        segments: Callable[[], Collection[Segment]],
        clean_blocks: Callable[[Collection[Segment]], int],
    ) -> None:
        self._device = device
        self._segments = segments
        self._clean_blocks = clean_blocks
        self._counted: tuple[int, int] | None = None

    @property
    def clean(self) -> int:
        """Blocks that can be given back at once. O(1) while nobody's state changes."""
        return self._count()[0]

    @property
    def vacating(self) -> int:
        """Blocks that become clean, or free, when the copies under way land. O(1) likewise."""
        return self._count()[1]

    def stale(self) -> None:
        """A request's state changes, or a clean copy is given up: count anew when somebody asks."""
        self._counted = None

    def check_invariants(self) -> None:
        """Assert the module's invariant.

        Raises:
            AssertionError: if something changed without `stale`, which is a bug of ours.
        """
        now = self._recount()
        assert self._counted in (None, now), f"counted {self._counted} (clean, vacating), there are {now}"

    def _count(self) -> tuple[int, int]:
        if self._counted is None:
            self._counted = self._recount()
        return self._counted

    def _recount(self) -> tuple[int, int]:
        segments = [segment for segment in self._segments() if not segment.resident]
        moving = [segment for segment in segments if segment.job is not None and not segment.quarantined]
        vacating = sum(self._device.num_blocks(segment.segment_id) for segment in moving)
        return self._clean_blocks(segments), vacating

"""Two streams that work on two buffers in turn: one fills a buffer while the other empties the one before.

Ours. The order of the waits is the point: a buffer is filled again only after what was in it has left, and emptied only
after it was filled. Streams are `torch.cuda.Stream`, or whatever has its three methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["NUM_BUFFERS", "WorkStream", "double_buffer"]

NUM_BUFFERS = 2


class WorkStream(Protocol):
    """Work in order, as `torch.cuda.Stream`."""

    def wait_event(self, event: Any) -> None:
        """Work enqueued from now on starts after the event."""

    def wait_stream(self, stream: Any) -> None:
        """Work enqueued from now on starts after all that ``stream`` holds now."""

    def record_event(self) -> Any:
        """An event for all work enqueued so far."""


def double_buffer(
    num_pieces: int,
    filler: WorkStream,
    emptier: WorkStream,
    fill: Callable[[int], None],
    empty: Callable[[int], None],
) -> None:
    """Enqueue every piece's two steps; piece i goes through buffer ``i % NUM_BUFFERS``.

    Args:
        num_pieces: pieces.
        filler: where ``fill`` enqueues its work.
        emptier: where ``empty`` enqueues its work.
        fill: puts piece i into its buffer.
        empty: takes piece i out of its buffer.
    """
    emptied: list[Any] = []
    for piece in range(num_pieces):
        if piece >= NUM_BUFFERS:
            filler.wait_event(emptied[piece - NUM_BUFFERS])
        fill(piece)
        emptier.wait_stream(filler)
        empty(piece)
        emptied.append(emptier.record_event())

"""The waits of the double buffer, with streams that run nothing until somebody waits: a missing wait shows on a CPU."""

from __future__ import annotations

import itertools

import pytest

from fastswitch.kernels._double_buffer import NUM_BUFFERS, double_buffer


class LazyStream:
    """Runs its items when it is forced to, in order, and first whatever an item waits for."""

    def __init__(self):
        self.items = []
        self.num_done = 0

    def enqueue(self, item):
        self.items.append(item)

    def record_event(self):
        return self, len(self.items)

    def wait_event(self, event):
        stream, position = event
        self.enqueue(lambda: stream.force(position))

    def wait_stream(self, stream):
        self.wait_event(stream.record_event())

    def force(self, position=None):
        position = len(self.items) if position is None else position
        while self.num_done < position:
            item = self.items[self.num_done]
            self.num_done += 1
            item()


@pytest.mark.parametrize("num_pieces", range(6))
@pytest.mark.parametrize("first", ["filler", "emptier"])
def test_every_piece_passes_whichever_stream_runs_first(num_pieces, first):
    filler, emptier = LazyStream(), LazyStream()
    buffers, received = [None] * NUM_BUFFERS, []

    def fill(piece):
        def work():
            assert buffers[piece % NUM_BUFFERS] is None, "filled before it was empty"
            buffers[piece % NUM_BUFFERS] = piece

        filler.enqueue(work)

    def empty(piece):
        def work():
            received.append(buffers[piece % NUM_BUFFERS])
            buffers[piece % NUM_BUFFERS] = None

        emptier.enqueue(work)

    double_buffer(num_pieces, filler, emptier, fill, empty)
    for stream in [filler, emptier] if first == "filler" else [emptier, filler]:
        stream.force()
    assert received == list(range(num_pieces))


def test_a_buffer_is_filled_while_the_other_one_is_emptied():
    """The second fill needs no emptying before it; the third needs the first."""
    filler, emptier = LazyStream(), LazyStream()
    done = []
    double_buffer(
        4,
        filler,
        emptier,
        lambda piece: filler.enqueue(lambda: done.append(f"fill {piece}")),
        lambda piece: emptier.enqueue(lambda: done.append(f"empty {piece}")),
    )
    filler.force(2)
    assert done == ["fill 0", "fill 1"]
    filler.force()
    assert done == ["fill 0", "fill 1", *itertools.chain(*[(f"empty {i}", f"fill {i + 2}") for i in range(2)])]

"""A switch's times follow from what its job reported."""

from __future__ import annotations

from fastswitch.engine.switch_record import CLEAN, DROPPED, SwitchRecord
from fastswitch.memory import SwapDirection


def record(way, **more):
    return SwitchRecord(3, "talk", SwapDirection.SWAP_OUT, way, 10.0, 14.0, **more)


def test_copies_begin_after_the_queue_and_end_when_they_are_done():
    switch = record("per_run", queue_s=1.5, copy_s=2.0)
    assert (switch.start_s, switch.end_s, switch.copied) == (11.5, 13.5, True)


def test_what_copied_nothing_is_a_moment():
    for switch in (record(CLEAN), record(DROPPED), record("failed", error="OSError: the link broke")):
        assert (switch.start_s, switch.end_s, switch.copied) == (10.0, 10.0, False)

"""The picture of timelines is drawn, of whatever runs there are; what it looks like is for people to see."""

from __future__ import annotations

import pytest

from fastswitch.engine.switch_record import CLEAN, DROPPED, SwitchRecord
from fastswitch.engine.timeline import Timeline
from fastswitch.engine.timeline_plot import plot_timelines
from tests.engine.simulator.small_bed import OUT
from tests.engine.simulator.test_worked_by_hand import ASYNCHRONOUS, SYNCHRONOUS
from tests.engine.test_timeline_recorder import exchanged


def size_of(path):
    """Width and height of a PNG."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_each_run_has_its_place_and_a_long_title_its_lines(tmp_path):
    one, two = exchanged(SYNCHRONOUS)[1], exchanged(ASYNCHRONOUS)[1]
    plot_timelines({"synchronous": one}, "fastswitch", tmp_path / "1.png")
    plot_timelines({"synchronous": one, "asynchronous": two}, "fastswitch " * 60, tmp_path / "2.png")
    (width, height), (same_width, more) = size_of(tmp_path / "1.png"), size_of(tmp_path / "2.png")
    assert width == same_width
    assert more > height


@pytest.mark.parametrize(
    "switches",
    [
        (),
        (SwitchRecord(0, 0, OUT, CLEAN, 1.0, 1.0), SwitchRecord(0, 0, OUT, DROPPED, 2.0, 2.0)),
        (SwitchRecord(0, 0, OUT, "failed", 1.0, 1.0, error="OSError: on fire"),),
    ],
)
def test_runs_that_copied_nothing_are_drawn_too(tmp_path, switches):
    plot_timelines({"a": Timeline((), (), switches), "b": Timeline((), (), ())}, "title", tmp_path / "t.png")
    assert size_of(tmp_path / "t.png")[0] > 1000

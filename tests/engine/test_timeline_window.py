"""The window that is drawn: where most is switched in most runs, and few enough iterations to see each."""

from __future__ import annotations

import pytest

from fastswitch.engine.switch_record import DROPPED, SwitchRecord
from fastswitch.engine.timeline import Iteration, Timeline
from fastswitch.engine.timeline_window import MOST_ITERATIONS, Window, busiest_window
from tests.engine.simulator.small_bed import OUT


def run(num_iterations, *switched_at, iteration_s=1.0):
    """Iterations without a gap, and switches at these moments."""
    iterations = [Iteration(i * iteration_s, (i + 1) * iteration_s, 1, 1) for i in range(num_iterations)]
    switches = [SwitchRecord(0, 0, OUT, DROPPED, at, at) for at in sorted(switched_at)]
    return Timeline(tuple(iterations), (), tuple(switches))


def test_it_is_45_typical_iterations_and_begins_a_little_before_the_first_of_most_switches():
    window = busiest_window([run(500, 100.0, 300.0, 310.0, 320.0)])
    assert (window.seconds, window.start_s) == (45.0, 300.0 - 0.05 * 45)
    assert (window.num_switches, window.most_iterations) == (3, 45)


def test_a_window_in_which_each_run_switches_comes_before_one_in_which_one_switches_much():
    window = busiest_window([run(500, 100.0, 300.0, 301.0, 302.0), run(500, 110.0)])
    assert window.start_s < 100.0
    assert window.num_switches == 2


def test_of_equals_the_earliest():
    assert busiest_window([run(500, 100.0, 300.0)]).start_s == 100.0 - 0.05 * 45


def test_it_does_not_begin_before_the_run():
    assert busiest_window([run(100, 0.0)]).start_s == 0.0


def test_a_run_of_short_iterations_makes_it_shorter():
    window = busiest_window([run(300, 200.0), run(100, 200.0), run(1000, 200.0, iteration_s=0.25)])
    assert window.most_iterations <= MOST_ITERATIONS
    assert window.num_switches == 3


def test_windows_with_too_many_iterations_come_last():
    busy, crowded = run(200, 50.0), run(200, 150.0, 151.0)
    burst = [Iteration(150 + i * 1e-3, 150 + (i + 1) * 1e-3, 1, 1) for i in range(100)]
    crowded = Timeline((*crowded.iterations[:150], *burst), (), crowded.switches)
    assert busiest_window([busy, crowded]).start_s < 50.0


def test_iterations_all_at_one_moment_end_the_search():
    at_once = Timeline(tuple(Iteration(1.0, 1.0, 1, 1) for _ in range(100)), (), run(0, 1.0).switches)
    assert busiest_window([at_once]).num_switches == 1


@pytest.mark.parametrize("timelines", [[run(100)], [run(0)], [run(0), run(100)]])
def test_without_a_switch_it_is_the_beginning(timelines):
    window = busiest_window(timelines)
    assert (window.start_s, window.num_switches) == (0.0, 0)
    assert window.seconds > 0
    assert "nothing was switched in any run" in window.title


def test_a_span_is_cut_to_what_is_seen_of_it():
    window = Window(start_s=10.0, seconds=2.0, num_switches=3, most_iterations=4)
    assert window.meets(9.0, 10.5)
    assert window.milliseconds(9.0, 10.5) == (0.0, 500.0)
    assert window.milliseconds(11.0, 15.0) == (1000.0, 1000.0)
    assert window.meets(11.0, 11.0)
    assert window.milliseconds(11.0, 11.0) == (1000.0, 0.0)
    assert not window.meets(8.0, 9.9)
    assert not window.meets(12.1, 13.0)
    assert window.title == "10.000 s to 12.000 s: 3 switches, at most 4 iterations a run"

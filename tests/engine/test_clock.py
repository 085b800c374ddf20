"""Virtual time: it passes when told to, and skipped time is told apart from slept time."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from fastswitch.engine import clock
from fastswitch.engine.clock import Clock, VirtualClock

seconds = st.floats(-10, 1e6)


def test_the_examples_are_true():
    assert doctest.testmod(clock).failed == 0


@given(st.lists(st.tuples(st.sampled_from(["sleep", "skip_to"]), seconds)))
def test_time_never_runs_back_and_is_slept_or_skipped(calls):
    virtual: Clock = VirtualClock()
    slept = 0.0
    for name, argument in calls:
        before = virtual.now()
        getattr(virtual, name)(argument)
        if name == "sleep":
            slept += max(0.0, argument)
            assert virtual.now() == before + max(0.0, argument)
        else:
            assert virtual.now() == max(before, argument)  # the very time, or a replay would wait a hair for ever
    assert abs(virtual.now() - slept - virtual.skipped_s) <= 1e-9 * virtual.now()

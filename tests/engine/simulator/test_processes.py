"""Work side by side: all of it is done, and none of it outlives a failure."""

import multiprocessing
import time

import pytest

from fastswitch.engine.simulator.processes import side_by_side


def square(number):
    return number * number


def fail_at_three(number):
    if number == 3:
        raise ValueError("three")
    time.sleep(60 if number > 3 else 0)  # ended with the rest, long before that
    return number


def test_each_item_comes_with_its_result():
    polls = []
    found = dict(side_by_side(square, range(6), on_poll=lambda: polls.append(1)))
    assert found == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16, 5: 25}
    assert polls


def test_a_failure_ends_what_still_runs():
    with pytest.raises(ValueError, match="three"):
        list(side_by_side(fail_at_three, [3, 4, 5, 6]))
    for process in multiprocessing.active_children():
        process.join(10)
        assert not process.is_alive()

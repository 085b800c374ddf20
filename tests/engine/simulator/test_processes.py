"""Work side by side: all of it is done, and none of it outlives a failure."""

import multiprocessing
import time

import pytest

from fastswitch.engine.simulator.processes import side_by_side


def square(number):
    return number * number


def fail_first(item):
    number, path = item
    if number == 0:
        raise ValueError("first")
    time.sleep(5)  # work that takes long, and is ended before it is done
    path.touch()


def test_each_item_comes_with_its_result():
    polls = []
    found = dict(side_by_side(square, range(6), on_poll=lambda: polls.append(1)))
    assert found == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16, 5: 25}
    assert polls


def test_a_failure_ends_what_still_runs(tmp_path):
    items = [(number, tmp_path / str(number)) for number in range(4)]
    before = set(multiprocessing.active_children())
    with pytest.raises(ValueError, match="first"):
        list(side_by_side(fail_first, items))
    assert set(multiprocessing.active_children()) <= before
    assert not list(tmp_path.iterdir()), "what was to be ended was waited for"

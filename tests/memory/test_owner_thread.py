"""The first thread that asks is the owner, until a hand-over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread

import fastswitch
from fastswitch.memory.owner_thread import OwnerThread


def asked_elsewhere(thread: OwnerThread) -> bool:
    """What another thread is told."""
    answers: list[bool] = []
    other = Thread(target=lambda: answers.append(thread.is_current()))
    other.start()
    other.join()
    return answers[0]


def test_the_first_that_asks_is_the_owner():
    thread = OwnerThread()
    assert thread.is_current()
    assert not asked_elsewhere(thread)
    assert thread.is_current()


def test_making_one_does_not_bind_it():
    # The other thread is still alive when this one asks, so its identifier is not used again.
    thread, answers = OwnerThread(), []

    def ask_in_both():
        answers.append(thread.is_current())
        answers.append(asked_elsewhere(thread))

    other = Thread(target=ask_in_both)
    other.start()
    other.join()
    assert answers == [True, False]


def test_after_a_hand_over_the_next_that_asks_is_the_owner():
    thread, answers = OwnerThread(), []
    assert thread.is_current()
    thread.hand_over()

    def ask_and_let_the_first_ask():
        answers.append(thread.is_current())
        answers.append(asked_elsewhere(thread))

    other = Thread(target=ask_and_let_the_first_ask)
    other.start()
    other.join()
    assert answers == [True, False]


def test_the_check_is_gone_in_optimised_mode():
    code = (
        "import threading; from fastswitch.memory import PagedAllocator\n"
        "allocator = PagedAllocator(2); allocator.allocate('a', 1)\n"
        "other = threading.Thread(target=lambda: allocator.allocate('b', 1)); other.start(); other.join()\n"
        "print(*allocator.owners)"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(fastswitch.__file__).parents[1],
    )
    assert done.stdout.split() == ["a", "b"]

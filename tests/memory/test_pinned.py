"""Page-locked memory is registered whole, unregistered once and before it is unmapped, and not at exit."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys

import numpy as np
import pytest

from fastswitch.memory import pinned_memory
from tests.memory.registrars import RecordingRegistrar, is_mapped
from tests.test_layers import ROOT, python

PAGE = mmap.PAGESIZE
SIZES = (2 * PAGE, PAGE, 3 * PAGE)


def test_the_pieces_lie_one_behind_the_other_on_whole_pages():
    registrar = RecordingRegistrar()
    memory = pinned_memory(SIZES, registrar)
    first = memory.ctypes.data
    assert registrar.pieces == {first: 2 * PAGE, first + 2 * PAGE: PAGE, first + 3 * PAGE: 3 * PAGE}
    assert first % PAGE == 0
    assert memory.dtype == np.uint8
    assert memory.shape == (6 * PAGE,)


def test_the_memory_is_zeros_and_can_be_written():
    memory = pinned_memory(SIZES, RecordingRegistrar())
    assert not memory.any()
    memory[:] = np.arange(len(memory)) % 251
    assert memory[-1] == (len(memory) - 1) % 251


def test_each_piece_is_unregistered_once_before_the_memory_is_unmapped():
    registrar = RecordingRegistrar()  # asserts that what it unregisters is mapped
    memory = pinned_memory(SIZES, registrar)
    first = memory.ctypes.data
    assert not registrar.unregistered
    del memory
    gc.collect()
    assert sorted(registrar.unregistered) == registrar.registered
    assert not registrar.pieces
    assert not is_mapped(first)


def test_a_view_keeps_all_of_it():
    registrar = RecordingRegistrar()
    memory = pinned_memory(SIZES, registrar)
    view = memory[-8:].view(np.float64)
    del memory
    gc.collect()
    assert not registrar.unregistered
    view[0] = 2.5
    assert view[0] == 2.5
    del view
    gc.collect()
    assert not registrar.pieces


def test_a_cycle_of_garbage_is_unregistered_too():
    registrar = RecordingRegistrar()
    cycle = [pinned_memory(SIZES, registrar)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert sorted(registrar.unregistered) == registrar.registered


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_where_a_piece_fails_the_ones_before_it_are_unregistered(fail_at):
    registrar = RecordingRegistrar(fail_at)
    start = sum(SIZES[:fail_at])
    with pytest.raises(RuntimeError) as caught:
        pinned_memory(SIZES, registrar)
    assert str(caught.value) == (
        f"cannot page-lock bytes [{start}, {start + SIZES[fail_at]}) of {6 * PAGE}: out of memory (2); "
        "raise `ulimit -l`, take less host memory, or use pinned=False"
    )
    del caught
    gc.collect()
    first = registrar.registered[0]
    assert sorted(registrar.unregistered) == registrar.registered[:fail_at]
    assert not registrar.pieces
    assert not is_mapped(first)


def test_a_piece_that_cannot_be_unregistered_is_reported_and_keeps_no_other(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(str(unraisable.exc_value)))

    class Stuck(RecordingRegistrar):
        def unregister(self, address):
            super().unregister(address)
            if address == self.registered[1]:
                raise RuntimeError("an illegal memory access was encountered (700)")

    registrar = Stuck()
    pinned_memory(SIZES, registrar)
    gc.collect()
    assert sorted(registrar.unregistered) == registrar.registered
    assert reported == ["an illegal memory access was encountered (700)"]


@pytest.mark.parametrize("size", [0, -PAGE, PAGE // 2, PAGE + 1])
def test_a_piece_is_whole_pages(size):
    registrar = RecordingRegistrar()
    with pytest.raises(ValueError) as caught:
        pinned_memory([PAGE, size], registrar)
    assert str(caught.value) == f"a piece must be whole pages of {PAGE} bytes, got {size} bytes"
    assert not registrar.calls


def test_there_is_at_least_one_piece():
    with pytest.raises(ValueError, match="^pinned memory needs at least one piece$"):
        pinned_memory([], RecordingRegistrar())


def test_more_than_there_are_addresses_for():
    registrar = RecordingRegistrar()
    with pytest.raises(RuntimeError) as caught:
        pinned_memory([2**60], registrar)
    assert str(caught.value) == f"cannot map {2**60} bytes of host memory: Cannot allocate memory; map less"
    assert not registrar.calls


PROGRAM = """
import atexit, gc, mmap, os, sys
from fastswitch.memory import pinned_memory
class Printing:
    def register(self, address, num_bytes): print("register", flush=True)
    def unregister(self, address): print("unregister", flush=True)
"""


def test_nothing_is_unregistered_at_exit():
    """CUDA may be gone; what the process dropped before is unregistered, what it still has is not."""
    program = PROGRAM + "kept, dropped = (pinned_memory([mmap.PAGESIZE] * 2, Printing()) for _ in range(2))\n"
    program += "del dropped\nprint('end')\nkept[:] = 1\natexit.register(lambda: kept.fill(2))\n"
    assert python(program) == ["register"] * 4 + ["unregister"] * 2 + ["end"]


def test_exit_by_an_exception_that_holds_the_memory():
    program = PROGRAM + "def fail(memory): raise SystemExit(3)\nfail(pinned_memory([mmap.PAGESIZE], Printing()))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split()[0] == "register"


def test_a_forked_child_unregisters_nothing_and_shares_the_memory():
    program = (
        PROGRAM
        + """
memory = pinned_memory([mmap.PAGESIZE], Printing())
if not os.fork():
    memory[0] = 7
    del memory
    gc.collect()
    os._exit(0)
os.wait()
print(memory[0])
del memory
"""
    )
    assert python(program) == ["register", "7", "unregister"]

"""Page-locked host memory of any size: a mapping that is registered with the device's driver piece by piece.

``torch.empty(pin_memory=True)`` rounds up to a power of two, at worst to twice the wish; a mapping has the
size that it was asked for. One registration of 512 GiB fails, several smaller ones do not.

Paper: none of this; the text of FastSwitch (arXiv 2411.18424) that we have does not say how host memory is page-locked.
Ours:  the mapping is shared memory, since after a fork the pages of a private one are copied when they are written, and
       the device would go on with the old ones.
Invariants:
1. A piece is unregistered once, after the last view of the memory is gone and before the memory is unmapped.
2. Where one piece cannot be registered, none stays registered.
3. Nothing is unregistered at the interpreter's exit, when CUDA may be gone and copies under way, nor in a forked child,
   where CUDA does not work: the system unlocks the pages of a process that ends.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["HostRegistrar", "pinned_memory"]


class HostRegistrar(Protocol):
    """Page-locks host memory for a device, and unlocks it."""

    def register(self, address: int, num_bytes: int) -> None:
        """Page-lock ``num_bytes`` bytes from ``address`` on, both whole pages.

        Raises:
            RuntimeError: if that fails, with the driver's reason and code.
        """

    def unregister(self, address: int) -> None:
        """Unlock what was registered at ``address``. Called on whatever thread drops the last view.

        Raises:
            RuntimeError: if that fails, with the driver's reason and code.
        """


def pinned_memory(piece_bytes: Sequence[int], registrar: HostRegistrar) -> NDArray[np.uint8]:
    """Map new host memory, zeros, and page-lock it in pieces.

    It lives as long as the array or any view of it, be it numpy's or torch's; whoever drops the last one sees to it
    that no device still copies.

    Args:
        piece_bytes: bytes of each piece, at least one and each whole pages (``mmap.PAGESIZE``), in the order of the
            memory.
        registrar: locks a piece, and unlocks it.

    Returns:
        uint8 ``[sum(piece_bytes)]``, on a page's start.

    Raises:
        ValueError: if there is no piece, or one is not whole pages.
        RuntimeError: if the memory cannot be mapped or a piece not be locked; then nothing stays mapped or locked.

    >>> class Registrar:  # a stand-in for the driver
    ...     def register(self, address, num_bytes):
    ...         print("locked", {mmap.PAGESIZE: "a page"}[num_bytes])
    ...     def unregister(self, address):
    ...         print("unlocked")
    >>> memory = pinned_memory([mmap.PAGESIZE] * 2, Registrar())
    locked a page
    locked a page
    >>> memory.shape == (2 * mmap.PAGESIZE,)
    True
    >>> del memory
    unlocked
    unlocked
    """
    for num_bytes in piece_bytes:
        if num_bytes < 1 or num_bytes % mmap.PAGESIZE:
            raise ValueError(f"a piece must be whole pages of {mmap.PAGESIZE} bytes, got {num_bytes} bytes")
    mapping = _mapped(sum(piece_bytes))
    # Not the mapping itself: its finalisers would run when it is unmapped already.
    owner = (ctypes.c_ubyte * len(mapping)).from_buffer(mapping)
    with ExitStack() as unlock:
        for end, num_bytes in zip(accumulate(piece_bytes), piece_bytes, strict=True):
            address = ctypes.addressof(owner) + end - num_bytes
            _register(registrar, address, num_bytes, f"bytes [{end - num_bytes}, {end}) of {len(mapping)}")
            unlock.callback(registrar.unregister, address)
        weakref.finalize(owner, _unlock, unlock.pop_all(), os.getpid(), mapping).atexit = False
    return np.frombuffer(memoryview(owner), np.uint8)


def _mapped(num_bytes: int) -> mmap.mmap:
    if not num_bytes:
        raise ValueError("pinned memory needs at least one piece")
    try:
        return mmap.mmap(-1, num_bytes)
    except OSError as error:
        raise RuntimeError(f"cannot map {num_bytes} bytes of host memory: {error.strerror}; map less") from error


def _register(registrar: HostRegistrar, address: int, num_bytes: int, what: str) -> None:
    try:
        registrar.register(address, num_bytes)
    except RuntimeError as error:
        way_out = "raise `ulimit -l`, take less host memory, or use pinned=False"
        raise RuntimeError(f"cannot page-lock {what}: {error}; {way_out}") from error


def _unlock(unlock: ExitStack, pid: int, _mapping: mmap.mmap) -> None:
    """Unregister every piece, also if one fails. As an argument the mapping cannot go before this has run."""
    if os.getpid() == pid:
        unlock.close()

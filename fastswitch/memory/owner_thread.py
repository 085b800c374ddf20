"""The one thread that may change an object, found out rather than told, and asserted in debug mode.

Allocators and managers have no locks: they belong to one thread, the engine's. The first call that changes such an
object makes the calling thread its owner; a change from any other thread then fails an ``assert``, so ``python -O``
pays nothing. Whoever builds an object in one thread and uses it in another calls `OwnerThread.hand_over` in between.

Source: ours.
Guarantees:
1. Until a hand-over, `OwnerThread.is_current` is true in one thread only: the first that asked.
2. It is a check and no lock: two threads that race for the very first call may both pass it once. Nor does a hand-over
   synchronise anything; that the old owner has stopped is the caller's business.
3. A thread that starts after the owner has ended may get its identifier, and then passes for it.
"""

from __future__ import annotations

from threading import get_ident

__all__ = ["WRONG_THREAD", "OwnerThread"]

WRONG_THREAD = "used by a second thread: it belongs to the first that changed it, until hand_over() is called"


class OwnerThread:
    """Who owns an object: ``assert self._thread.is_current(), WRONG_THREAD``.

    >>> import threading
    >>> thread, seen = OwnerThread(), []
    >>> def ask():
    ...     seen.append(thread.is_current())
    >>> def ask_elsewhere():
    ...     other = threading.Thread(target=ask)
    ...     other.start()
    ...     other.join()
    >>> ask(); ask_elsewhere(); thread.hand_over(); ask_elsewhere()
    >>> seen
    [True, False, True]
    """

    __slots__ = ("_ident",)

    def __init__(self) -> None:
        self._ident: int | None = None  # None until somebody asks

    def is_current(self) -> bool:
        """Whether the calling thread is the owner, which it becomes if there is none."""
        ident = get_ident()
        if self._ident is None:
            self._ident = ident
        return self._ident == ident

    def hand_over(self) -> None:
        """Make the next thread that asks the owner. Any thread may call this."""
        self._ident = None

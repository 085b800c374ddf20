"""One swap job under way: what its thread, its caller and whoever comes after it know of it.

Ours. The thread that copies writes, everybody reads; a future gets its report or exception exactly once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from fastswitch.engine.copier import Submission
from fastswitch.engine.swaps import SwapReport

__all__ = ["CopyHungError", "Flight"]


class CopyHungError(RuntimeError):
    """A copy has not come back within the deadline: its blocks are nobody's until it does."""


class Flight:
    """One job.

    Args:
        submission: the job.
        after: those whose copies must be over before this one's start.

    Attributes:
        future: gets the report, or the exception, exactly once.
        known: set when the copies are enqueued, or will never be.
        report: None until ``known`` is set; stays None for a job that hangs before its copies are enqueued.
        fenced: the caller's later work waits for its copies.
        hung: it was given up.
        returned: its thread is done with it, be it that it had been given up.
    """

    def __init__(self, submission: Submission, after: Sequence[Flight] = ()) -> None:
        self.submission = submission
        self.after = after
        self.future: Future[SwapReport] = Future()
        self.future.set_running_or_notify_cancel()  # a copy cannot be called off, so nobody cancels its future
        self.known = threading.Event()
        self.report: SwapReport | None = None
        self.fenced = False
        self.hung = False
        self.returned = False
        self._lock = threading.Lock()  # its thread and whoever gives it up may both settle it

    def dispatch(self, report: SwapReport) -> None:
        """Its copies are enqueued."""
        with self._lock:
            self.report = report
            self.known.set()

    def settle(self, report: SwapReport) -> None:
        """Give the future its report or exception; nothing if it has one."""
        with self._lock:
            self.report = report
            self.known.set()
            if not self.future.done():
                if report.error is None:
                    self.future.set_result(report)
                else:
                    self.future.set_exception(report.error)

    def give_up(self, error: CopyHungError) -> None:
        """It hangs: whoever waits for it waits no longer. Nothing if it is over by now."""
        with self._lock:
            if self.future.done():
                return
            self.hung = True
            self.known.set()
            self.future.set_exception(error)

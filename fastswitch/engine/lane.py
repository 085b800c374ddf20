"""The thread of one direction: enqueues jobs in order, and tells their futures when they are over.

Ours. It runs ahead of the copies: a job is enqueued while those before it are still being copied, so that a device does
not wait for this thread, nor the caller for more than that. What is enqueued is asked after now and then. A job that
comes after one of the other direction is enqueued when that one is.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from dataclasses import replace

from fastswitch.engine.clock import Clock
from fastswitch.engine.copier import Copier
from fastswitch.engine.flight import CopyHungError, Flight
from fastswitch.engine.streams import Stream
from fastswitch.engine.swaps import SwapReport
from fastswitch.memory import SwapDirection

__all__ = ["Lane"]

POLL_S = 2e-4  # between two looks at the oldest copy, while there is nothing to enqueue


class Lane(threading.Thread):
    """Serves the flights that are submitted to it, first come, first served.

    Args:
        direction: whose jobs it serves; names the thread.
        copier: makes the copies.
        stream: where they are enqueued.
        clock: tells how long it has been busy with one copy.
    """

    def __init__(self, direction: SwapDirection, copier: Copier, stream: Stream, clock: Clock) -> None:
        super().__init__(name=f"fastswitch-{direction.value.replace('_', '-')}", daemon=True)
        self._copier = copier
        self._stream = stream
        self._clock = clock
        self._queue: queue.Queue[Flight | None] = queue.Queue()
        self._open: deque[Flight] = deque()  # enqueued on the stream, not settled; the oldest first
        self._serving: Flight | None = None
        self._busy_since: float | None = None
        self._lock = threading.Lock()  # orders a submission against the thread's end
        self._ended_by: BaseException | None = None
        self._hanging: tuple[Flight, ...] = ()

    def submit(self, flight: Flight) -> None:
        """Queue a flight.

        Raises:
            RuntimeError: if the thread has ended, or a copy of it hangs.
        """
        with self._lock:
            if self._ended_by is not None:
                raise RuntimeError(f"{self.name} has ended ({self._ended_by!r}): no copies are possible any more")
            if not all(hung.returned for hung in self._hanging):
                raise RuntimeError(f"a copy of {self.name} hangs: no copies are possible until it returns")
            self._queue.put(flight)

    def stop(self) -> None:
        """End when everything submitted so far is over."""
        self._queue.put(None)

    def give_up_if_late(self, deadline_s: float) -> None:
        """Give up what it has been busy with for longer than that, and fail what is queued behind, untouched."""
        since = self._busy_since
        if since is None or self._clock.now() - since <= deadline_s:
            return
        error = CopyHungError(f"a copy of {self.name} has not come back within {deadline_s:g} s")
        with self._lock:
            if self._busy_since != since:  # it has just come back, and another one's time has begun
                return
            queued = self._take_queued()
            self._hanging = tuple(self._begun())
        for flight in self._hanging:
            flight.give_up(error)
        for flight in queued:
            flight.settle(self._copier.failure(flight.submission, error))

    def run(self) -> None:
        """Serve until `stop`."""
        ended_by: BaseException = RuntimeError("closed")
        try:
            while (flight := self._next()) is not None:
                self._serve(flight)
        except BaseException as error:  # the thread dies of it; whoever holds a future is told
            ended_by = error
        with self._lock:
            self._ended_by = self._ended_by or ended_by
        self._settle_all()
        self.fail_left(ended_by)

    def fail_left(self, error: BaseException) -> None:
        """Refuse new jobs and fail those that nobody serves any more, one that hangs included."""
        with self._lock:
            self._ended_by = self._ended_by or error
            left = [*self._begun(), *self._take_queued()]
        for flight in left:
            flight.settle(self._copier.failure(flight.submission, error))

    def _begun(self) -> list[Flight]:
        """What it has taken up and not finished; to be called with the lock."""
        serving = [] if self._serving is None else [self._serving]
        return [flight for flight in (*self._open, *serving) if not flight.returned]

    def _take_queued(self) -> list[Flight]:
        queued = []
        with contextlib.suppress(queue.Empty):  # the thread may take the last one meanwhile
            while (flight := self._queue.get_nowait()) is not None:
                queued.append(flight)
            self._queue.put(None)  # to end was asked for after all that is queued
        return queued

    def _next(self) -> Flight | None:
        """The next flight to serve; while there is none, what is over is settled."""
        while self._open:
            self._settle_done()
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=POLL_S if self._open else None)
        return self._queue.get()

    def _serve(self, flight: Flight) -> None:
        with self._lock:
            self._serving = flight
        try:
            turn_s = self._clock.now()
            self._let_others_go_first(flight)
            start_s = self._clock.now()
            with self._lock:
                self._busy_since = start_s if self._busy_since is None else self._busy_since
            report = replace(self._copier.copy(flight.submission, self._stream), after_s=start_s - turn_s)
        except BaseException as error:
            self._finish(flight, self._copier.failure(flight.submission, error))
            if not isinstance(error, Exception):
                raise
            return
        flight.dispatch(report)
        with self._lock:
            self._open.append(flight)
            self._serving = None
        self._settle_done()

    def _let_others_go_first(self, flight: Flight) -> None:
        """Wait until the copies that this one comes after are enqueued, and have the stream wait for them."""
        for before in flight.after:
            while not before.known.wait(POLL_S if self._open else None):
                self._settle_done()
            if before.hung or before.report is None:
                job_id = before.submission.job.job_id
                raise CopyHungError(f"job {flight.submission.job.job_id} comes after job {job_id}, which hangs")
            if before.report.copy_done is not None:
                self._stream.wait(before.report.copy_done)

    def _is_done(self, flight: Flight) -> bool:
        assert flight.report is not None
        done = flight.report.copy_done
        try:
            return done is None or done.query()
        except Exception:  # `_settle_oldest` meets it again, and tells the future
            return True

    def _settle_done(self) -> None:
        while self._open and self._is_done(self._open[0]):
            self._settle_oldest()

    def _settle_all(self) -> None:
        while self._open:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        flight = self._open[0]
        report = flight.report
        assert report is not None, "what is open was dispatched"
        try:
            if report.copy_done is not None:
                report.copy_done.synchronize()
        except Exception as error:
            report = self._copier.failure(flight.submission, error)
        self._finish(flight, report)

    def _finish(self, flight: Flight, report: SwapReport) -> None:
        """The flight is over, one way or the other; the next one's time begins."""
        flight.settle(report)
        with self._lock:
            flight.returned = True
            if self._serving is flight:
                self._serving = None
            else:
                self._open.popleft()
            self._busy_since = self._clock.now() if self._open else None

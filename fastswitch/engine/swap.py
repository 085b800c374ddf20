"""Asynchronous swaps: a daemon thread a direction, a queue, a future a job.

Paper: FastSwitch (arXiv 2411.18424), Multithreading Swap Manager: copies are dispatched off the engine's thread,
       finished ones are polled each iteration.
Ours:  everything below.

# Guarantees:
1. ``submit`` returns at once: it records one event on the caller's compute stream and copies nothing.
2. A job's report or its exception always reaches its future, also when the copy raises, the thread dies or the
   coordinator is closed. A copy that raises fails its own job only.
3. Jobs of one direction run in the order of submission; the two directions run side by side.
4. A copy starts after all work that the caller's compute stream held at ``submit``; after ``landed`` has reported a
   job, or ``wait`` has returned for it, work that the caller enqueues starts after the copies.
5. After a thread has died ``submit`` raises, and every job it still held has failed.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING

from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.copier import Copier, Submission
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.streams import Event, Stream, Streams, streams_for
from fastswitch.engine.swaps import SwapReport
from fastswitch.kernels import Transfer
from fastswitch.memory import SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

__all__ = ["SwapCoordinator"]

CLOSE_TIMEOUT_S = 10.0  # a copy that takes longer than this hangs; its thread is a daemon and holds nobody up


class _Flight:
    """One job under way."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.future: Future[SwapReport] = Future()
        self.future.set_running_or_notify_cancel()  # a copy cannot be called off, so nobody cancels its future
        self.dispatched = threading.Event()
        self.report: SwapReport | None = None  # set before `dispatched`
        self.fenced = False  # the caller's later work waits for it
        self._lock = threading.Lock()  # a thread and a `close` that gave it up may both settle

    def is_over(self) -> bool:
        if not self.dispatched.is_set() or self.report is None:
            return False
        return self.fenced or self.report.copy_done is None or self.report.copy_done.query()

    def dispatch(self, report: SwapReport) -> None:
        with self._lock:
            if not self.future.done():
                self._note(report)

    def settle(self, report: SwapReport) -> None:
        """Give the future its report or exception; nothing if it has one."""
        with self._lock:
            if self.future.done():
                return
            self._note(report)
            if report.error is None:
                self.future.set_result(report)
            else:
                self.future.set_exception(report.error)

    def _note(self, report: SwapReport) -> None:
        self.report = report
        self.dispatched.set()


class _Lane(threading.Thread):
    """The thread of one direction."""

    def __init__(self, name: str, copier: Copier, stream: Stream) -> None:
        super().__init__(name=f"fastswitch-{name}", daemon=True)
        self._copier = copier
        self._stream = stream
        self._queue: queue.Queue[_Flight | None] = queue.Queue()
        self._serving: _Flight | None = None
        self._lock = threading.Lock()  # orders a submission against the thread's end
        self._ended_by: BaseException | None = None

    def submit(self, flight: _Flight) -> None:
        with self._lock:
            if self._ended_by is not None:
                raise RuntimeError(f"{self.name} has ended ({self._ended_by!r}): no copies are possible any more")
            self._queue.put(flight)

    def stop(self) -> None:
        self._queue.put(None)

    def run(self) -> None:
        ended_by: BaseException = RuntimeError("closed")
        try:
            while (flight := self._queue.get()) is not None:
                self._serve(flight)
        except BaseException as error:  # the thread dies of it; whoever holds a future is told
            ended_by = error
        self.fail_left(ended_by)

    def fail_left(self, error: BaseException) -> None:
        """Refuse new jobs and fail those that nobody serves any more, one that hangs included."""
        with self._lock:
            self._ended_by = self._ended_by or error
            left = [self._serving]
            while not self._queue.empty():
                left.append(self._queue.get())
        for flight in left:
            if flight is not None:
                flight.settle(self._copier.failure(flight.submission, error))

    def _serve(self, flight: _Flight) -> None:
        self._serving = flight
        try:
            report = self._copier.copy(flight.submission, self._stream)
            flight.dispatch(report)
            if report.copy_done is not None:
                report.copy_done.synchronize()
        except BaseException as error:
            flight.settle(self._copier.failure(flight.submission, error))
            if not isinstance(error, Exception):
                raise
        else:
            flight.settle(report)
        self._serving = None


class SwapCoordinator:
    """Copies jobs on two threads of its own. A context manager: leaving it closes it.

    Args:
        device_pool: the device's KV.
        host_pool: the host's KV, pinned where the device is a GPU; in the other order only `TRANSPOSING` ways go.
        transfer: a key of ``fastswitch.kernels.TRANSFERS``, ``"chosen"`` (the cheapest), or a `Transfer` of one's own.
        link: what a job costs on an emulated link; None where the link is real.
        clock: time, shared with the engine.
        streams: where work is enqueued; by default those of the device pool's device.

    Raises:
        ValueError: if the pools do not fit together or the transfer is unknown.
    """

    def __init__(
        self,
        device_pool: KVPool,
        host_pool: KVPool,
        *,
        transfer: str | Transfer = "per_run",
        link: EmulatedLink | None = None,
        clock: Clock | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._clock = clock or RealClock()
        self._streams = streams or streams_for(device_pool.device, self._clock)
        self._copier = Copier(device_pool, host_pool, transfer, link, self._clock)
        self._lanes = {
            SwapDirection.SWAP_OUT: _Lane("swap-out", self._copier, self._streams.swap_out),
            SwapDirection.SWAP_IN: _Lane("swap-in", self._copier, self._streams.swap_in),
        }
        self._flights: dict[int, _Flight] = {}  # job_id |-> flight, in order of submission
        self._waited_s = 0.0
        self._fences: list[tuple[Event, Event]] = []  # on the compute stream, around each wait that is not over
        for lane in self._lanes.values():
            lane.start()

    @property
    def stall_s(self) -> float:
        """Seconds for which the caller, or its compute stream, stood still in ``wait`` so far."""
        self._fold_fences()
        return self._waited_s

    def submit(self, job: SwapJob) -> Future[SwapReport]:
        """Hand the job to its direction's thread; returns at once.

        Raises:
            RuntimeError: if that thread has ended.
        """
        flight = _Flight(self._copier.submission(job, self._streams.compute))
        self._lanes[job.direction].submit(flight)
        self._flights[job.job_id] = flight
        return flight.future

    def landed(self) -> list[SwapReport]:
        """Jobs that ended since the last call, failed ones included; never blocks."""
        self._fold_fences()
        over = [flight for flight in self._flights.values() if flight.is_over()]
        for flight in over:
            self._fence(flight)
            del self._flights[flight.submission.job.job_id]
        return [flight.report for flight in over if flight.report is not None]

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Let these jobs finish before any work that the caller enqueues from now on; no other job is waited for.

        Blocks until their copies are dispatched; on CUDA the compute stream waits for the copies, the host does not.
        """
        start = self._clock.now()
        flights = [self._flights[job.job_id] for job in jobs if job.job_id in self._flights]
        for flight in flights:
            flight.dispatched.wait()
        self._waited_s += self._clock.now() - start
        for flight in flights:
            before = self._streams.compute.record()
            self._fence(flight)
            self._fences.append((before, self._streams.compute.record()))

    def wait_any(self, timeout_s: float | None) -> None:
        """Block until any job has ended, at most ``timeout_s``; returns at once when none is under way."""
        futures = [flight.future for flight in self._flights.values()]
        if futures:
            concurrent.futures.wait(futures, timeout_s, concurrent.futures.FIRST_COMPLETED)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Let queued jobs finish, at most ``timeout_s`` a direction, then fail what is left. Idempotent.

        A copy that hangs may still write when its thread wakes: after such a close both pools are of no use.
        """
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(timeout_s)
            lane.fail_left(RuntimeError(f"{lane.name} was closed while a copy hung"))
            lane.stop()  # for a thread that hung and wakes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fold_fences(self) -> None:
        """Add up the waits of the compute stream that are over, so that their events can go."""
        over = [fence for fence in self._fences if fence[1].query()]
        self._fences = [fence for fence in self._fences if fence not in over]
        self._waited_s += sum(after.seconds_since(before) for before, after in over)

    def _fence(self, flight: _Flight) -> None:
        done = flight.report.copy_done if flight.report is not None else None
        if done is not None and not flight.fenced:
            self._streams.compute.wait(done)
        flight.fenced = True

"""Asynchronous swaps: a daemon thread a direction, a queue, a future a job.

Paper: FastSwitch (arXiv 2411.18424), Multithreading Swap Manager: copies are dispatched off the engine's thread,
       finished ones are polled each iteration, conflicts are waited for one by one.
Ours:  everything below.

# Guarantees:
1. ``submit`` returns at once: it records one event on the caller's compute stream and copies nothing.
2. A job's report or its exception always reaches its future, also when the copy raises, the device reports an error
   later, the thread dies, the copy hangs (as long as somebody calls ``landed``, which looks at the clock) or the
   coordinator is closed. A copy that raises fails its own job only.
3. Jobs of one direction run in the order of submission; the two directions run side by side. A job that comes
   ``after`` others starts its copies when theirs are over, and is reported as landed after them.
4. A copy starts after all work that the caller's compute stream held at ``submit``; after ``landed`` has reported a
   job, or ``wait`` has returned for it, work that the caller enqueues starts after the copies. So a block is written
   only after every read of it that was submitted earlier.
5. After a thread has died ``submit`` of its direction raises, and every job that it had not enqueued has failed.
6. A copy that takes longer than ``deadline_s`` is reported as hung by ``landed``, once, and once more when it has come
   back; what was queued behind it fails untouched, and ``submit`` raises until then. ``wait`` and ``wait_any`` end with
   the deadline. What was reported as landed because the caller's later work waits for it, and fails after all, is told
   by ``lost``.
7. ``close`` lets queued jobs finish within its bound and fails what is left, also after a thread's death.

Blocks of a job belong to it, or to one that comes after it, until ``landed`` has reported it or ``copy`` has ended; of
one that hangs, until it is reported again.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING

from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.copier import Copier
from fastswitch.engine.flight import Flight
from fastswitch.engine.lane import Lane
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.streams import Event, Streams, streams_for
from fastswitch.engine.swaps import SwapReport
from fastswitch.kernels import Transfer
from fastswitch.memory import SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

__all__ = ["SwapCoordinator"]

CLOSE_TIMEOUT_S = 10.0
DEADLINE_S = 30.0  # a hundred times what the largest request takes on the slowest link


class SwapCoordinator:
    """Copies jobs on two threads of its own. A context manager: leaving it closes it.

    Args:
        device_pool: the device's KV.
        host_pool: the host's KV, pinned where the device is a GPU; in the other order only `TRANSPOSING` ways go.
        transfer: a key of ``fastswitch.kernels.TRANSFERS``, ``"chosen"`` (the cheapest), or a `Transfer` of one's own.
        link: what a job costs on an emulated link; None where the link is real.
        clock: time, shared with the engine.
        streams: where work is enqueued; by default those of the device pool's device.
        deadline_s: seconds after which a copy that has not come back hangs.

    Raises:
        ValueError: if the pools do not fit together, the transfer is unknown, or the deadline is not positive.
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
        deadline_s: float = DEADLINE_S,
    ) -> None:
        if not deadline_s > 0:
            raise ValueError(f"deadline_s must be positive, got {deadline_s}")
        self._deadline_s = deadline_s
        self._clock = clock or RealClock()
        self._streams = streams or streams_for(device_pool.device, self._clock)
        self._copier = Copier(device_pool, host_pool, transfer, link, self._clock)
        self._lanes = {
            each: Lane(each, self._copier, self._copier.stream(self._streams, each), self._clock)
            for each in SwapDirection
        }
        self._flights: dict[int, Flight] = {}  # job_id |-> flight that was not reported, in order of submission
        self._fenced: list[Flight] = []  # reported, since later work waits for them; may fail yet
        self._hung: list[Flight] = []  # reported as hung, and not back
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
            ValueError: if the job was submitted, and is not reported yet.
            RuntimeError: if that thread has ended, or a copy of it hangs.
        """
        if job.job_id in self._flights or any(flight.submission.job is job for flight in self._hung):
            raise ValueError(f"job {job.job_id} is under way: submit it once, and land it when landed() reports it")
        before = [flight for flight in (*self._flights.values(), *self._hung) if flight.submission.job in job.after]
        flight = Flight(self._copier.submission(job, self._streams.compute), before)
        self._lanes[job.direction].submit(flight)
        self._flights[job.job_id] = flight
        return flight.future

    def copy(self, job: SwapJob) -> SwapReport:
        """Copy one job, and come back when its bytes are there: for an engine that waits for its copies.

        It is what ``KVCacheManager.suspend`` and ``resume`` ask for. ``landed`` does not report the job again; other
        jobs it does. However long the copies take, they are waited for, also after Ctrl-C: when this returns or raises,
        nobody touches the job's blocks any more.

        Raises:
            ValueError: if the job comes after one that was not reported.
            RuntimeError: as `submit` does.
            BaseException: whatever ended the copies; nothing about the destination is certain.
        """
        late = [other.job_id for other in job.after if other.job_id in self._flights]
        if late:
            raise ValueError(
                f"job {job.job_id} comes after job {late[0]}, which is not over: wait until landed() says so"
            )
        start = self._clock.now()
        future = self.submit(job)
        try:
            return future.result()
        finally:
            concurrent.futures.wait([future])
            del self._flights[job.job_id]
            self._waited_s += self._clock.now() - start

    def landed(self) -> list[SwapReport]:
        """Jobs that ended since the last call, failed ones included; never blocks.

        A job that hangs is reported with a `CopyHungError`, and again when its copies are over: until then nobody may
        have its blocks.
        """
        self._fold_fences()
        self._fenced = [flight for flight in self._fenced if not flight.returned or _failed(flight)]
        over = []
        for job_id, flight in list(self._flights.items()):
            report = self._report_if_over(flight)
            if report is not None and (report.error is not None or not self._has_some_before(flight)):
                del self._flights[job_id]
                over.append(report)
        return [*over, *self._newly_hung(), *self._back()]

    def lost(self) -> list[SwapReport]:
        """Jobs that ``landed`` reported because later work waits for their copies, and that failed after all.

        What was enqueued since has read, or kept, what is not there.
        """
        failed, left = [], []
        for flight in self._fenced:
            report = flight.report if flight.returned else self._report_if_over(flight, fenced=False)
            if report is None:
                left.append(flight)
            elif report.error is not None:
                failed.append(report)
        self._fenced = left
        return failed

    def wait(self, jobs: Iterable[SwapJob]) -> None:
        """Let these jobs finish before any work that the caller enqueues from now on; no other job is waited for.

        Blocks until their copies are enqueued; on CUDA the compute stream waits for the copies, the host does not. A
        job that hangs is waited for until its deadline.
        """
        start = self._clock.now()
        flights = [self._flights[job.job_id] for job in jobs if job.job_id in self._flights]
        for flight in flights:
            flight.known.wait(max(0.0, start + self._deadline_s - self._clock.now()))
        self._waited_s += self._clock.now() - start
        for flight in [each for each in flights if each.known.is_set() and not each.hung]:
            before = self._streams.compute.record()
            self._fence(flight)
            self._fences.append((before, self._streams.compute.record()))

    def wait_any(self, timeout_s: float | None) -> None:
        """Block until any job has ended, at most ``timeout_s``; returns at once when none is under way."""
        futures = [flight.future for flight in self._flights.values()]
        if futures:
            most = self._deadline_s if timeout_s is None else min(timeout_s, self._deadline_s)
            concurrent.futures.wait(futures, most, concurrent.futures.FIRST_COMPLETED)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Let queued jobs finish, at most ``timeout_s`` in all, then fail what is left. Idempotent.

        A copy that hangs may still write when its thread wakes: after such a close both pools are of no use.
        """
        until = self._clock.now() + timeout_s
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(max(0.0, until - self._clock.now()))
            lane.fail_left(RuntimeError(f"{lane.name} was closed before the job had ended"))
            lane.stop()  # for a thread that hung and wakes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fold_fences(self) -> None:
        """Add up the waits of the compute stream that are over, so that their events can go."""
        over = [fence for fence in self._fences if _is_true(fence[1])]
        self._fences = [fence for fence in self._fences if fence not in over]
        self._waited_s += sum(after.seconds_since(before) for before, after in over)

    def _fence(self, flight: Flight) -> None:
        done = flight.report.copy_done if flight.report is not None else None
        if done is not None and not flight.fenced:
            self._streams.compute.wait(done)
            flight.fenced = True
            self._fenced.append(flight)

    def _has_some_before(self, flight: Flight) -> bool:
        """Whether a job that it comes after was not reported as over yet."""
        open_jobs = (other.submission.job.job_id in self._flights or other in self._hung for other in flight.after)
        return any(open_jobs)

    def _report_if_over(self, flight: Flight, *, fenced: bool = True) -> SwapReport | None:
        """The flight's report if the caller may go on; with ``fenced`` False, if its copies are over indeed."""
        report = flight.report
        if flight.hung or report is None:
            return None
        if report.error is not None or report.copy_done is None or (fenced and flight.fenced):
            return report
        try:
            done = report.copy_done.query()
        except Exception as error:  # the device says so of an earlier copy, whoever asks
            return self._copier.failure(flight.submission, error)
        if done and fenced:
            self._streams.compute.wait(report.copy_done)
        return report if done else None

    def _newly_hung(self) -> list[SwapReport]:
        for lane in self._lanes.values():
            lane.give_up_if_late(self._deadline_s)
        hung = [flight for flight in self._flights.values() if flight.hung]
        self._hung += hung
        for flight in hung:
            del self._flights[flight.submission.job.job_id]
        return [_given_up(flight, "hung") for flight in hung]

    def _back(self) -> list[SwapReport]:
        """The ones that hung and are over at last."""
        back = [flight for flight in self._hung if flight.returned]
        self._hung = [flight for flight in self._hung if flight not in back]
        return [_given_up(flight, "returned") for flight in back]


def _given_up(flight: Flight, way: str) -> SwapReport:
    return SwapReport(flight.submission.job, way, error=flight.future.exception(0))


def _failed(flight: Flight) -> bool:
    return flight.report is not None and flight.report.error is not None


def _is_true(event: Event) -> bool:
    try:
        return event.query()
    except Exception:  # of some earlier work; whoever is concerned is told by its own event
        return False

"""The switches of requests: begun, waited for, made true or undone, whatever their copies come to."""

from __future__ import annotations

import time

from fastswitch.engine.flight import CopyHungError
from fastswitch.engine.swap import DEADLINE_S
from fastswitch.memory import OutOfBlocksError, SwapDirection
from tests.engine.stress_copies import PATIENCE_S, Fate, Flight
from tests.engine.stress_hazards import SwapHazardError
from tests.engine.stress_requests import MOST_TOKENS

__all__ = ["Switches"]


class Switches:
    """Takes requests from the device and brings them back, as an engine does.

    Args:
        bed: where.
        requests: whose.
        pace: told of each job, and asked to let go what is waited for.
        draws: chooses.
        counts: where submits, landings and aborts are counted.

    Attributes:
        in_flight: job_id |-> flight that has not been reported.
        hanging: job_id |-> flight that was reported as one that hangs, and not yet as over.
        futures: one a job that its thread took.
    """

    def __init__(self, bed, requests, pace, draws, counts):
        self.in_flight = {}
        self.hanging = {}
        self.futures = []
        self._bed = bed
        self._requests = requests
        self._pace = pace
        self._draws = draws
        self._counts = counts
        self._deadly = {}  # direction |-> number of the job that kills its thread
        self._deadly_job_id = draws.randrange(200) if bed.setup.deadly else None

    def swap_out(self):
        request = self._requests.pick(resident=True)
        if not self._is_free(request) or not self._worth_it(self._bed.kv.dirty_blocks(request.request_id)):
            return
        begun_at = next(self._bed.clock)
        try:
            job = self._bed.kv.begin_swap_out(request.request_id)
        except OutOfBlocksError:
            self._requests.drop(request)
            return
        request.resident = False
        self._submit(request, job, begun_at)

    def swap_in(self):
        request = self._requests.pick(resident=False)
        if not self._is_free(request) or not self._worth_it(self._bed.kv.missing_blocks(request.request_id)):
            return
        if any(job.direction is SwapDirection.SWAP_IN for job in self._bed.kv.jobs(request.request_id)):
            return  # of what it shares: begin again when that has ended
        begun_at = next(self._bed.clock)
        try:
            num_tokens, early = self._draws.randint(0, MOST_TOKENS), self._bed.setup.early
            job = self._bed.kv.begin_swap_in(request.request_id, num_tokens, early=early)
        except OutOfBlocksError:
            return
        request.resident = True
        if job is not None and job.after:
            self._counts["early"] += 1
        self._submit(request, job, begun_at)

    def write_back(self):
        """Ahead of an eviction: the request may go on."""
        request = self._requests.pick(resident=True)
        if self._is_free(request):
            begun_at = next(self._bed.clock)
            job = self._bed.kv.begin_write_back(request.request_id, self._draws.randint(1, 8))
            self._submit(request, job, begun_at)

    def prefetch(self):
        """Ahead of a return: the request stays away."""
        request = self._requests.pick(resident=False)
        if self._is_free(request):
            begun_at = next(self._bed.clock)
            job = self._bed.kv.begin_prefetch(request.request_id, self._draws.randint(1, 8))
            self._submit(request, job, begun_at)

    def poll(self):
        """What has ended becomes true."""
        reports = self._bed.swaps.landed()
        for report in reports:
            if report.job.job_id in self.hanging:  # it is over at last
                del self.hanging[report.job.job_id]
                self._bed.kv.abort(report.job)
                self._counts["abort"] += 1
                continue
            flight = self.in_flight.pop(report.job.job_id, None)
            if flight is None:
                raise SwapHazardError(f"job {report.job.job_id} was reported twice")
            if report.hangs:
                self._give_up(flight)
            else:
                self._end(flight, report.error)
        return [report.job for report in reports]

    def wait(self):
        """For one copy, behind others or not."""
        if not self.in_flight:
            return
        flight = self._draws.choice([*self.in_flight.values()])
        self._pace.let_all_before(flight, self.in_flight.values())
        self._bed.swaps.wait([flight.job])
        if not self._may_fail(flight) and not self._bed.setup.hanging:
            self._bed.expect_arrival(flight, f"{flight} was waited for")
            if self._draws.random() < 0.5:
                self._bed.finish_compute()
        must_have_landed = not self._comes_after_others(flight)
        if flight.job not in self.poll() and must_have_landed:
            self._bed.finish_compute()
            found = self._bed.hazards.first or "what he should"
            raise SwapHazardError(f"{flight} was waited for, and has not landed; a reader finds {found}")

    def wait_any(self):
        if not self.in_flight:
            return
        self._pace.let_all()
        until = time.monotonic() + PATIENCE_S
        self._bed.swaps.wait_any(PATIENCE_S)
        while not self.poll():
            withheld = any(flight.job.after for flight in self.in_flight.values())  # it ended before those
            if not withheld or time.monotonic() > until:
                raise SwapHazardError("wait_any came back, and nothing has landed")

    def quarantine(self):
        """A copy hangs, as it seems: its request goes on without it."""
        moving = [request for request in self._requests.known.values() if request.flight is not None]
        if not moving:
            return
        self._quarantine(self._draws.choice(moving).flight)

    def pass_time(self):
        """The deadline of whatever stands still has passed."""
        self._bed.time.sleep(DEADLINE_S + 1)

    def _submit(self, request, job, begun_at):
        if job is None:
            self._requests.expect_kv(request, f"request {request.request_id} needs no copy")
            return
        arrivals = self._bed.arrivals(request.request_id, request.stamps, job)
        flight = Flight(job, self._pace.num_taken[job.direction], self._draw_fate(job), begun_at, arrivals)
        if job.ahead:
            self._counts["ahead"] += 1
        else:
            request.flight = flight
        self.in_flight[job.job_id] = flight
        self._bed.copies.expect(flight)
        self._counts["submit"] += 1
        try:
            self.futures.append(self._bed.swaps.submit(job))
        except RuntimeError as error:
            if not self._may_fail(flight) and not self._bed.setup.hanging:
                raise SwapHazardError(f"{flight} was refused while its thread lives") from error
            self._conclude(flight, error)
            return
        self._pace.take(flight)

    def _end(self, flight, error):
        """The copy is over, one way or the other."""
        if error is None and flight.fate is not Fate.WELL:
            raise SwapHazardError(f"{flight} landed, and its copy had raised")
        if error is not None and not self._may_fail(flight) and not isinstance(error, CopyHungError):
            raise SwapHazardError(f"{flight} failed, and its copy had not") from error
        self._conclude(flight, error)

    def _conclude(self, flight, error):
        job = flight.job
        self.in_flight.pop(job.job_id, None)
        if error is None:
            self._bed.expect_arrival(flight, f"{flight} landed")
            self._bed.kv.land(job)
        else:
            self._bed.kv.abort(job)
        self._counts["land" if error is None else "abort"] += 1
        request = self._requests.known.get(job.request_id)
        if request is None or (request.flight is not flight and not job.ahead):
            return
        if not job.ahead:
            request.flight = None
            request.resident = self._bed.kv.is_resident(request.request_id)
        if error is not None and request.flight is None and self._draws.random() < 0.5:
            self._requests.drop(request)
        self._requests.expect_kv(request, f"{flight} ended")

    def _give_up(self, flight):
        """Its copy is taken to hang."""
        self.hanging[flight.job.job_id] = flight
        self._counts["hang"] += 1
        self._quarantine(flight)

    def _quarantine(self, flight):
        self._bed.kv.quarantine(flight.job)
        request = self._requests.known.get(flight.job.request_id)
        if request is not None and (request.flight is flight or flight.job.ahead):
            request.flight, request.resident = None, True
        self._counts["quarantine"] += 1

    def _is_free(self, request):
        """There is one, and nothing is copied ahead for it."""
        return request is not None and not any(
            job.ahead and job.request_id == request.request_id for job in self._bed.kv.jobs(request.request_id)
        )

    def _worth_it(self, num_blocks):
        """Most switches that copy nothing are left out."""
        return num_blocks > 0 or self._draws.random() < 0.15

    def _draw_fate(self, job):
        if job.job_id == self._deadly_job_id:
            self._deadly[job.direction] = self._pace.num_taken[job.direction]
            return Fate.DEADLY
        if self._draws.random() >= self._bed.setup.failing:
            return Fate.WELL
        return self._draws.choice([Fate.AT_ONCE, Fate.HALF_WAY])

    def _may_fail(self, flight):
        """Its copy raises, or its thread is dead by then."""
        direction = flight.job.direction
        return flight.fate is not Fate.WELL or flight.number >= self._deadly.get(direction, flight.number + 1)

    def _comes_after_others(self, flight):
        """It is reported after them."""
        return any(job.job_id in self.in_flight or job.job_id in self.hanging for job in flight.job.after)

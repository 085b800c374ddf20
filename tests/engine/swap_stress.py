"""A driver that does at random what an engine does to manager and coordinator, over KV whose bytes tell whose they are.

Requests grow, leave, come back, are forked, rolled back and cancelled at any moment; copies start when the driver lets
them, fail, and are reported in whatever order threads bring about. No promise of `KVCacheManager` and `SwapCoordinator`
is taken on trust: what a reader would find is compared wherever a promise says that he may read.

With lazy streams nothing of the compute stream's and the copies' work runs before somebody waits for it, or before the
driver lets the device go on by a random number of items: that shows an event or a fence that is missing.
The draws come from a seed. What threads do meanwhile does not: the driver is right for any timing of theirs.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from fastswitch.memory import OutOfBlocksError, SwapDirection
from tests.engine.stress_bed import Bed, Setup
from tests.engine.stress_copies import PATIENCE_S, Fate, Flight
from tests.engine.stress_hazards import SwapHazardError
from tests.engine.stress_pace import Pace
from tests.engine.stress_requests import MOST_TOKENS, Requests

__all__ = ["Stress", "stress"]


class Stress:
    """Drives one bed.

    Args:
        seed: of all draws.
        bed: the driver's alone; closed by whoever made it.

    Attributes:
        counts: what was done, by name.
    """

    def __init__(self, seed, bed):
        self.bed = bed
        self.counts = Counter()
        self.draws = random.Random(seed)
        self.requests = Requests(bed, self.draws, self.counts)
        self.in_flight = {}  # job_id |-> flight that has not been reported
        self.pace = Pace(bed, self.draws)
        self.deadly = {}  # direction |-> number of the job that kills its thread
        self.futures = []
        self.deadly_job_id = self.draws.randrange(200) if bed.setup.deadly else None

    @property
    def num_steps(self):
        return self.counts["submit"] + self.counts["land"] + self.counts["abort"] + self.counts["cancel"]

    def run(self, num_steps):
        """Do this many more submits, landings, aborts and cancellations, in any mix."""
        end = self.num_steps + num_steps
        while self.num_steps < end:
            self.act()

    def act(self):
        """Do one thing that an engine might do."""
        acts, weights = _LAZY_ACTS if self.bed.setup.lazy else _ACTS
        self.draws.choices(acts, cum_weights=weights)[0](self)
        self.counts["act"] += 1
        if self.bed.setup.check_every and self.counts["act"] % self.bed.setup.check_every == 0:
            self.check()
        self.bed.hazards.raise_first()

    def finish(self):
        """Cancel everything, let every copy end, and find every block free and every future settled."""
        for request_id in [*self.requests.known]:
            self.requests.release(request_id)
        self.bed.copies.open_all()
        while self.in_flight:
            self.wait_any()
        self.bed.check_all_free()
        self.bed.close()
        if not all(future.done() for future in self.futures):
            raise SwapHazardError("the coordinator is closed, and a future was never settled")

    def check(self):
        for request in self.requests.known.values():
            self.requests.look_at(request)
        self.bed.check()

    # Switches

    def swap_out(self):
        request = self.requests.pick(resident=True)
        if request is None or not self.worth_it(self.bed.kv.dirty_blocks(request.request_id)):
            return
        begun_at = next(self.bed.clock)
        try:
            job = self.bed.kv.begin_swap_out(request.request_id)
        except OutOfBlocksError:
            self.requests.drop(request)
            return
        request.resident = False
        self.submit(request, job, begun_at)

    def swap_in(self):
        request = self.requests.pick(resident=False)
        if request is None or not self.worth_it(self.bed.kv.missing_blocks(request.request_id)):
            return
        if any(job.direction is SwapDirection.SWAP_IN for job in self.bed.kv.jobs(request.request_id)):
            return  # of what it shares: begin again when that has ended
        begun_at = next(self.bed.clock)
        try:
            job = self.bed.kv.begin_swap_in(request.request_id, self.draws.randint(0, MOST_TOKENS))
        except OutOfBlocksError:
            return
        request.resident = True
        self.submit(request, job, begun_at)

    def submit(self, request, job, begun_at):
        if job is None:
            self.requests.expect_kv(request, f"request {request.request_id} needs no copy")
            return
        arrivals = self.bed.arrivals(request.request_id, request.stamps, job)
        request.flight = flight = Flight(
            job, self.pace.num_taken[job.direction], self.draw_fate(job), begun_at, arrivals
        )
        self.in_flight[job.job_id] = flight
        self.bed.copies.expect(flight)
        self.counts["submit"] += 1
        try:
            self.futures.append(self.bed.swaps.submit(job))
        except RuntimeError as error:
            if not self.may_fail(flight):
                raise SwapHazardError(f"{flight} was refused while its thread lives") from error
            self.end(flight, error)
            return
        self.pace.take(flight)

    def worth_it(self, num_blocks):
        """Most switches that copy nothing are left out."""
        return num_blocks > 0 or self.draws.random() < 0.15

    def draw_fate(self, job):
        if job.job_id == self.deadly_job_id:
            self.deadly[job.direction] = self.pace.num_taken[job.direction]
            return Fate.DEADLY
        if self.draws.random() >= self.bed.setup.failing:
            return Fate.WELL
        return self.draws.choice([Fate.AT_ONCE, Fate.HALF_WAY])

    def may_fail(self, flight):
        """Its copy raises, or its thread is dead by then."""
        direction = flight.job.direction
        return flight.fate is not Fate.WELL or flight.number >= self.deadly.get(direction, flight.number + 1)

    # Copies under way

    def poll(self):
        """What has ended becomes true."""
        reports = self.bed.swaps.landed()
        for report in reports:
            flight = self.in_flight.pop(report.job.job_id, None)
            if flight is None:
                raise SwapHazardError(f"job {report.job.job_id} was reported twice")
            self.end(flight, report.error)
        return [report.job for report in reports]

    def wait(self):
        """For one copy, behind others or not."""
        if not self.in_flight:
            return
        flight = self.draws.choice([*self.in_flight.values()])
        self.pace.let_all_before(flight, self.in_flight.values())
        self.bed.swaps.wait([flight.job])
        if not self.may_fail(flight):
            self.bed.expect_arrival(flight, f"{flight} was waited for")
            if self.draws.random() < 0.5:
                self.bed.finish_compute()
        if flight.job not in self.poll():
            self.bed.finish_compute()
            found = self.bed.hazards.first or "what he should"
            raise SwapHazardError(f"{flight} was waited for, and has not landed; a reader finds {found}")

    def wait_any(self):
        if not self.in_flight:
            return
        self.pace.let_all()
        self.bed.swaps.wait_any(PATIENCE_S)
        if not self.poll():
            raise SwapHazardError("wait_any came back, and nothing has landed")

    def quarantine(self):
        """A copy hangs, as it seems: its request goes on without it."""
        moving = [request for request in self.requests.known.values() if request.flight is not None]
        if not moving:
            return
        request = self.draws.choice(moving)
        flight, request.flight = request.flight, None
        self.bed.kv.quarantine(flight.job)
        request.resident = True
        self.counts["quarantine"] += 1

    def end(self, flight, error):
        """The copy is over, one way or the other."""
        job = self.in_flight.pop(flight.job.job_id, flight).job
        if error is None and flight.fate is not Fate.WELL:
            raise SwapHazardError(f"{flight} landed, and its copy had raised")
        if error is not None and not self.may_fail(flight):
            raise SwapHazardError(f"{flight} failed, and its copy had not") from error
        if error is None:
            self.bed.expect_arrival(flight, f"{flight} landed")
            self.bed.kv.land(job)
        else:
            self.bed.kv.abort(job)
        self.counts["land" if error is None else "abort"] += 1
        request = self.requests.known.get(job.request_id)
        if request is None or request.flight is not flight:
            return
        request.flight = None
        request.resident = error is None and job.direction is SwapDirection.SWAP_IN
        if error is not None and self.draws.random() < 0.5:
            self.requests.drop(request)
        self.requests.expect_kv(request, f"{flight} ended")


def stress(seed, num_steps, *, lazy, steps_a_bed=1000):
    """Drive beds of different kinds for ``num_steps`` submits, landings, aborts and cancellations; what was done."""
    draws, total, num_left = random.Random(seed), Counter(), num_steps
    while num_left > 0:
        bed = Bed(Setup.drawn(draws, lazy=lazy))
        try:
            driver = Stress(draws.randrange(2**32), bed)
            driver.run(min(num_left, steps_a_bed))
            driver.finish()
        finally:
            bed.close()
        total += driver.counts
        num_left -= driver.num_steps
    return total


def _weighted(weights):
    return [*weights], [*itertools.accumulate(weights.values())]


def _on_requests(act):
    return lambda driver: act(driver.requests)


def _on_pace(act):
    return lambda driver: act(driver.pace)


_WEIGHTS = {
    _on_requests(Requests.compute): 16,
    _on_requests(Requests.add): 6,
    _on_requests(Requests.fork): 1,
    _on_requests(Requests.roll_back): 2,
    _on_requests(Requests.turn): 2,
    _on_requests(Requests.prefer): 1,
    _on_requests(Requests.starve): 2,
    _on_requests(Requests.cancel): 3,
    _on_requests(Requests.look_at_one): 4,
    Stress.swap_out: 16,
    Stress.swap_in: 16,
    _on_pace(Pace.let_start): 3,
    Stress.poll: 6,
    Stress.wait: 3,
    Stress.wait_any: 2,
    Stress.quarantine: 0.2,
}
_ACTS = _weighted(_WEIGHTS)
_LAZY_ACTS = _weighted({**_WEIGHTS, _on_pace(Pace.let_end): 6, _on_pace(Pace.go_on): 12})

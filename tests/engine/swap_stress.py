"""Does at random what an engine does to manager and coordinator, over KV whose bytes tell whose they are.

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

from tests.engine.stress_bed import Bed, Setup
from tests.engine.stress_hazards import SwapHazardError
from tests.engine.stress_pace import Pace
from tests.engine.stress_requests import Requests
from tests.engine.stress_switches import Switches

__all__ = ["STEPS", "Stress", "stress"]

STEPS = ("submit", "land", "abort", "cancel")


class Stress:
    """Drives one bed.

    Args:
        seed: of all draws.
        bed: the driver's alone; closed by whoever made it.

    Attributes:
        counts: what was done, by name.
    """

    def __init__(self, seed, bed):
        draws = random.Random(seed)
        pace = Pace(bed, draws)
        self.bed = bed
        self.counts = Counter()
        self.requests = Requests(bed, draws, self.counts)
        self.switches = Switches(bed, self.requests, pace, draws, self.counts)
        self._draws = draws
        weights = _weights(self.requests, self.switches, pace, lazy=bed.setup.lazy, hanging=bed.setup.hanging)
        self._acts, self._cum_weights = [*weights], [*itertools.accumulate(weights.values())]

    @property
    def num_steps(self):
        return sum([self.counts[step] for step in STEPS])

    def run(self, num_steps):
        """Do this many more submits, landings, aborts and cancellations, in any mix."""
        end = self.num_steps + num_steps
        while self.num_steps < end:
            self.act()

    def act(self):
        """Do one thing that an engine might do."""
        self._draws.choices(self._acts, cum_weights=self._cum_weights)[0]()
        self.counts["act"] += 1
        if self.bed.setup.check_every and self.counts["act"] % self.bed.setup.check_every == 0:
            self.check()
        self.bed.hazards.raise_first()

    def finish(self):
        """Cancel everything, let every copy end, and find every block free and every future settled."""
        for request_id in [*self.requests.known]:
            self.requests.release(request_id)
        self.bed.copies.open_all()
        while self.switches.in_flight:
            self.switches.wait_any()
        if self.switches.hanging:
            self.bed.close()
            self.switches.poll()
        self.bed.check_all_free()
        self.bed.close()
        if not all(future.done() for future in self.switches.futures):
            raise SwapHazardError("the coordinator is closed, and a future was never settled")

    def check(self):
        for request in self.requests.known.values():
            self.requests.look_at(request)
        self.bed.check()


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


def _weights(requests, switches, pace, *, lazy, hanging):
    """act |-> how often it is drawn, relative to the others."""
    weights = {
        requests.compute: 16,
        requests.add: 6,
        requests.fork: 1,
        requests.roll_back: 2,
        requests.turn: 2,
        requests.prefer: 1,
        requests.starve: 1,
        requests.cancel: 3,
        requests.look_at_one: 2,
        switches.swap_out: 16,
        switches.swap_in: 16,
        switches.write_back: 2,
        switches.prefetch: 2,
        switches.poll: 6,
        switches.wait: 3,
        switches.wait_any: 2,
        switches.quarantine: 0.2,
        pace.let_start: 3,
    }
    weights[requests.drop_one] = 0.5
    if hanging:
        weights[switches.pass_time] = 0.5
    return {**weights, pace.let_end: 6, pace.go_on: 12} if lazy else weights

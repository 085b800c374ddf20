"""The whole simulator against a queue that was solved a century ago.

Conversations of one turn and one token arrive at random and fit the pool one at a time, so each is served alone, for
exactly a second: an M/D/1 queue. Pollaczek and Khinchine: at a load of rho, requests wait rho / (2 (1 - rho)) seconds
on average. Lindley: each waits for max(0, the wait of the one before + its service - the gap between them), exactly.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.workloads import plan_arrivals
from tests.engine.simulator.small_bed import make_bed, make_workload

# load |-> mean wait in seconds: 0.3 / 1.4, 0.6 / 0.8, 0.8 / 0.4
MEAN_WAITS = {0.3: 0.214286, 0.6: 0.75, 0.8: 2.0}


def one_token_each(num_requests):
    return make_workload(*[[(3, 1)]] * num_requests)


def served_one_at_a_time(workload, plan, run="free_switch"):
    """Arrivals and waits, from arrival to the start of service, in order of arrival."""
    bed = make_bed(device_blocks=1, policy="fcfs")  # a prompt of 3 tokens and its answer fill the only block
    with bed.engine(SIMULATED_RUNS[run]) as engine:
        replay = Replay(engine, workload, plan, lambda _conversation, _turn: (0, 0, 0))
        replay.run()
    turns = [replay.turns[index, 0] for index in range(len(workload))]
    arrivals = np.array([turn.arrival for turn in turns])
    return arrivals, np.array([turn.token_times[0] for turn in turns]) - 1.0 - arrivals


def lindley(arrivals):
    waits = [0.0]
    for gap in np.diff(arrivals):
        waits.append(max(0.0, waits[-1] + 1.0 - gap))
    return np.array(waits)


def mean_wait(load, arrivals, waits, num_gaps=40):
    """The mean of the waits, less what chance has put into these very arrivals.

    Spitzer: the mean wait is the sum over k of E[max(0, k services - k gaps)] / k. Each of its terms has an exact mean
    and one in this sample; the waits' mean is off by nearly as much as the sum of the first terms is. What is taken
    off depends on the arrivals alone and is 0 on average, so a wrong wait stays as wrong as it was.
    """
    mean = waits.mean()
    for k in range(1, num_gaps + 1):
        mean -= (np.maximum(0, k - (arrivals[k:] - arrivals[:-k])).mean() - expected_excess(load, k)) / k
    return mean


def expected_excess(load, k):
    """E[max(0, k - G)], where G is the sum of k exponential gaps of mean 1 / load."""

    def less_than(num_gaps, seconds):
        at_most = (math.exp(-load * seconds) * (load * seconds) ** j / math.factorial(j) for j in range(num_gaps))
        return 1.0 - sum(at_most)

    return k * less_than(k, k) - k / load * less_than(k + 1, k)


@pytest.mark.parametrize("run", ["free_switch", "recompute", "vllm_0_3", "fastswitch"])
@pytest.mark.parametrize("load", MEAN_WAITS)
def test_every_request_waits_exactly_as_lindley_has_it(load, run):
    workload = one_token_each(600)
    arrivals, waits = served_one_at_a_time(workload, plan_arrivals(workload, rate=load, seed=1), run)
    assert np.abs(waits - lindley(arrivals)).max() < 1e-9
    assert waits.max() > 0.5


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(load):
    # Over seeds this has a standard deviation of 0.8 % (0.3) and 1.1 % (0.6); a plain mean, of 3 % and 4.5 %.
    workload = one_token_each(10_000)
    arrivals, waits = served_one_at_a_time(workload, plan_arrivals(workload, rate=load, seed=0))
    assert mean_wait(load, arrivals, waits) == pytest.approx(MEAN_WAITS[load], rel=0.03)


@pytest.mark.long
@pytest.mark.parametrize("load", MEAN_WAITS)
def test_the_mean_wait_of_many_is_that_of_pollaczek_and_khinchine(load):
    # Over seeds this has a standard deviation of 0.3 % (0.3), 0.4 % (0.6), 0.8 % (0.8); a plain mean, 1.1, 1.6, 2.3 %.
    workload = one_token_each(80_000)
    arrivals, waits = served_one_at_a_time(workload, plan_arrivals(workload, rate=load, seed=0))
    assert np.abs(waits - lindley(arrivals)).max() < 1e-9
    assert mean_wait(load, arrivals, waits, num_gaps=120) == pytest.approx(MEAN_WAITS[load], rel=0.03)

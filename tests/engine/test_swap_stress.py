"""Coordinator and manager under everything an engine may do to them at once: no hazard, no leak. And the stress itself:
it finds six mistakes, each seeded alone, and names them."""

from __future__ import annotations

import logging
import time

import pytest

from tests.engine.stress_bed import Bed, Setup
from tests.engine.stress_faults import (
    copy_before_those_it_comes_after,
    event_before_copy,
    free_before_landing,
    no_fence_before_copy,
    one_block_short,
    wait_on_the_wrong_job,
)
from tests.engine.stress_hazards import SwapHazardError
from tests.engine.swap_stress import STEPS, Stress, stress

SEEDS = range(3)
SOON = 300  # steps within which a fault must show; most show within 30
LATER = 1500  # likewise, of what only a switch in ten can bring about
JOB = r"swap_(out|in) job \d+ of request \d+"
WRONG = r"^.+: \d+ of \d+ tokens are wrong; token \d+ of request \d+ in \w+ block \d+ is .+"

logger = logging.getLogger(__name__)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_no_hazard_and_no_leak(lazy):
    counts = stress(seed=1, num_steps=2_000, lazy=lazy, steps_a_bed=250)
    assert min(counts[name] for name in (*STEPS, "cancel in a copy", "early", "ahead")) > 0


@pytest.mark.long
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_no_hazard_and_no_leak_in_100_000_steps(lazy):
    start = time.perf_counter()
    counts = stress(seed=2, num_steps=50_000, lazy=lazy)
    seconds = time.perf_counter() - start
    assert min(counts[name] for name in (*STEPS, "cancel in a copy", "early", "ahead", "hang", "quarantine")) > 0
    logger.info("%d steps a second; %s", 50_000 / seconds, dict(counts))


def run(seed, *, lazy, early=False, num_steps=SOON, **faulty):
    """A bed with no other look at the whole than what bytes tell."""
    bed = Bed(Setup(lazy=lazy, early=early, check_every=0), **faulty)
    try:
        driver = Stress(seed, bed)
        driver.run(num_steps)
        driver.finish()
    finally:
        bed.close()


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_where_nothing_is_wrong(seed, lazy):
    run(seed, lazy=lazy)
    run(seed, lazy=lazy, early=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_event_before_copy_is_found(seed):
    with pytest.raises(SwapHazardError, match=rf"{WRONG}: the copies of {JOB} are enqueued and have not run$"):
        run(seed, lazy=True, make_swaps=event_before_copy)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fence_before_copy_is_found(seed):
    cause = rf"{JOB} copied before \d+ pieces of compute work that were enqueued before it"
    with pytest.raises(SwapHazardError, match=rf"{WRONG}: {cause}$"):
        run(seed, lazy=True, make_swaps=no_fence_before_copy)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_free_before_landing_is_found(seed, lazy):
    with pytest.raises(SwapHazardError, match=rf"{WRONG}: {JOB} read block \d+, which had been given back$"):
        run(seed, lazy=lazy, make_kv=free_before_landing)


@pytest.mark.parametrize("seed", SEEDS)
def test_wait_on_the_wrong_job_is_found(seed):
    with pytest.raises(SwapHazardError, match=rf"^{JOB} was waited for, and has not landed; a reader finds "):
        run(seed, lazy=True, make_swaps=wait_on_the_wrong_job)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_increment_one_block_short_is_found(seed, lazy):
    with pytest.raises(SwapHazardError, match=rf"{WRONG}: {JOB} copies its neighbours and not this block$"):
        run(seed, lazy=lazy, make_kv=one_block_short)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_copy_before_those_it_comes_after_is_found(seed, lazy):
    faulty = {"early": True, "num_steps": LATER, "make_swaps": copy_before_those_it_comes_after}
    with pytest.raises(SwapHazardError, match=rf"{WRONG}: {JOB} read block \d+, which had been given back$"):
        run(seed, lazy=lazy, **faulty)

"""Few samples stand for many, and the tail's percentiles are those of all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.metrics import tail
from fastswitch.engine.reproduce.kept_samples import BODY_POINTS, MOST_WHOLE, KeptSamples


def drawn(seed, num):
    return np.random.default_rng(seed).lognormal(size=num)


@settings(max_examples=25)
@given(num=st.integers(0, 3000), seed=st.integers(0, 99))
def test_few_are_all_kept(num, seed):
    assert KeptSamples.of(drawn(seed, num)).tail() == tail(drawn(seed, num))


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 60_000), min_size=1, max_size=4))
def test_percentiles_of_several_runs_are_those_of_all_their_samples(sizes):
    several = [drawn(i, num) * (1 + i) for i, num in enumerate(sizes)]
    kept = KeptSamples.pooled([KeptSamples.of(each) for each in several]).tail()
    exact = tail(np.concatenate(several))
    for name, value in kept.items():
        if value is not None:
            assert value == pytest.approx(exact[name], rel=1e-12), name
    assert kept["max"] == exact["max"]


def test_runs_alike_keep_the_percentiles_that_a_report_needs():
    kept = KeptSamples.pooled([KeptSamples.of(drawn(seed, 50_000)) for seed in range(3)]).tail()
    assert None not in (kept["p99"], kept["p99.9"])
    assert kept["p50"] is None, "it lies among those that were thinned out"


def test_a_percentile_that_was_thinned_out_in_one_run_is_none():
    # all of the slow run's tail is above the quick one's: pooled, P99 lies in the slow one's body
    quick, slow = drawn(0, 50_000), 1e6 + drawn(1, 50_000)
    assert KeptSamples.pooled([KeptSamples.of(quick), KeptSamples.of(slow)]).tail()["p95"] is None


def test_a_tail_of_which_one_run_kept_a_part_alone_is_none():
    # P99 of both lies at 98: the slow run kept what is above 98.5, the quick one all that is above 0.985
    quick, slow = np.linspace(0, 1, 100_000), np.linspace(0, 100, 100_000)
    kept = KeptSamples.pooled([KeptSamples.of(quick), KeptSamples.of(slow)]).tail()
    assert kept["p99"] is None
    assert kept["p99.9"] == pytest.approx(np.percentile(np.concatenate([quick, slow]), 99.9))


def test_the_curve_falls_from_all_to_one():
    values, above = KeptSamples.of(drawn(0, 2 * MOST_WHOLE)).above()
    assert len(values) < BODY_POINTS + 0.02 * 2 * MOST_WHOLE
    assert above[0] == 1.0
    assert above[-1] == pytest.approx(1 / (2 * MOST_WHOLE))
    assert (np.diff(above) < 0).all()
    assert (np.diff(values) >= 0).all()


def test_the_curve_of_no_samples_has_no_points():
    values, above = KeptSamples.of(np.empty(0)).above()
    assert len(values) == len(above) == 0

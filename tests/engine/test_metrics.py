"""Which figures of a run are figures, and what they count."""

from __future__ import annotations

import hashlib
import struct

import pytest

from fastswitch.engine.metrics import PERCENTILES, latency_samples, speedup, tail, tokens_sha256
from fastswitch.engine.request import Turn

LEAST = {"p50": 10, "p90": 50, "p95": 100, "p99": 500, "p99.9": 5_000}  # 5 / (1 - p)


def make_turn(generated=(), *, arrival=0.0, times=(), switched=None):
    turn = Turn(0, 0, [1], max(1, len(generated)), arrival, list(generated), list(times))
    turn.switched = list(switched or [False] * len(times))
    return turn


@pytest.mark.parametrize("name", PERCENTILES)
def test_a_percentile_wants_five_samples_beyond_it(name):
    assert tail([1.0] * LEAST[name])[name] == 1.0
    assert tail([1.0] * (LEAST[name] - 1))[name] is None


def test_percentiles_of_a_ramp():
    assert tail([i / 1000 for i in range(5001)]) == {
        "n": 5001,
        "p50": pytest.approx(2.5),
        "p90": pytest.approx(4.5),
        "p95": pytest.approx(4.75),
        "p99": pytest.approx(4.95),
        "p99.9": pytest.approx(4.995),
        "max": 5.0,
    }


def test_no_samples_make_no_figures():
    assert tail([]) == {"n": 0, **dict.fromkeys(PERCENTILES), "max": None}
    assert tail([3.0])["max"] == 3.0


def test_gaps_in_which_a_turn_was_off_the_device_are_not_resident():
    turns = [
        make_turn([1, 2, 3, 4], arrival=1.0, times=[3.0, 4.0, 9.0, 10.0], switched=[True, False, True, False]),
        make_turn([5], arrival=2.0, times=[2.5]),
        make_turn(),  # cancelled before its first token
    ]
    samples = {metric: seconds.tolist() for metric, seconds in latency_samples(turns).items()}
    assert samples == {"ttft_s": [2.0, 0.5], "tbt_s": [1.0, 5.0, 1.0], "tbt_resident_s": [1.0, 1.0]}


def test_the_digest_is_over_turns_in_order_whatever_the_order_of_the_record():
    turns = {(1, 0): make_turn([7]), (0, 1): make_turn([2**40]), (0, 0): make_turn([1, 2]), (0, 10): make_turn([3])}
    wanted = hashlib.sha256(struct.pack("<5q", 1, 2, 2**40, 3, 7)).hexdigest()
    assert tokens_sha256(turns) == wanted
    assert tokens_sha256(dict(sorted(turns.items()))) == wanted
    assert tokens_sha256({}) == hashlib.sha256(b"").hexdigest()


def figures(ttft, tbt, rate):
    return {
        "ttft_s": {"p90": ttft, "p95": ttft, "p99": ttft, "p99.9": None},
        "tbt_s": {"p99.9": tbt},
        "tbt_resident_s": {"p99.9": None},
        "tokens_per_s": rate,
    }


def test_speedup_is_theirs_over_ours_for_times_and_ours_over_theirs_for_rates():
    assert speedup(figures(2.0, 0.5, 30.0), figures(3.0, 1.0, 20.0)) == {
        "ttft_p90": 1.5,
        "ttft_p95": 1.5,
        "ttft_p99": 1.5,
        "ttft_p99.9": None,
        "tbt_p99.9": 2.0,
        "tbt_resident_p99.9": None,
        "tokens_per_s": 1.5,
    }


def test_a_ratio_of_nothing_is_nothing():
    assert speedup(figures(None, 1.0, 1.0), figures(1.0, None, 0.0)) == dict.fromkeys(
        ["ttft_p90", "ttft_p95", "ttft_p99", "ttft_p99.9", "tbt_p99.9", "tbt_resident_p99.9", "tokens_per_s"]
    )

"""What a switch takes: expected, corrected by what was seen, and taken from where it was measured."""

from __future__ import annotations

import numpy as np
import pytest

from fastswitch.engine import InlineSwaps
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.measure import Speeds
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator import FreeCosts, LinkCosts
from fastswitch.engine.simulator.copy_costs import one_run_s
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.switch_costs import MeasuredCosts, RunningCosts
from fastswitch.memory import KVLayout, SwapDirection
from fastswitch.sched import CheapestSwitch
from tests.engine.simulator.small_bed import COMPUTING, make_bed
from tests.engine.simulator.small_bed import EmulatedLink as Link
from tests.engine.small_engine import check_answers, finish, make_engine

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN


def expected(out=0.001, back=0.002, token=0.0001):
    return MeasuredCosts(lambda n: out * n, lambda n: back * n, lambda n: token * n)


class TestRunningCosts:
    def test_are_as_expected_before_anything_was_seen(self):
        costs = RunningCosts(expected())
        assert (costs.out_s(3), costs.in_s(3), costs.recompute_s(30)) == pytest.approx((0.003, 0.006, 0.003))

    def test_follow_what_was_seen_each_for_itself(self):
        costs = RunningCosts(expected())
        costs.observe_copy(OUT, 10, 0.030)
        costs.observe_prompt(100, 0.005)
        assert (costs.out_s(2), costs.in_s(2), costs.recompute_s(10)) == pytest.approx((0.006, 0.004, 0.0005))

    def test_the_first_counts_in_full_and_each_later_one_a_fifth(self):
        costs = RunningCosts(expected())
        costs.observe_copy(IN, 10, 0.040)
        assert costs.in_s(10) == pytest.approx(0.040)
        costs.observe_copy(IN, 10, 0.020)
        assert costs.in_s(10) == pytest.approx(0.036)

    def test_what_says_nothing_changes_nothing(self):
        costs = RunningCosts(expected(out=0.0))
        costs.observe_copy(OUT, 5, 1.0)
        costs.observe_copy(IN, 0, 1.0)
        assert (costs.out_s(5), costs.in_s(1)) == (0.0, 0.002)


class TestOfAnEngine:
    def test_learns_from_copies_and_from_prompts_that_are_alone(self):
        """An iteration of the small engine takes a second, a copy on its thread far less than it is expected to."""
        costs = RunningCosts(expected(out=100.0, back=100.0, token=1.0))
        engine = make_engine(device_blocks=6, swaps=InlineSwaps, costs=costs)
        first = engine.submit(range(1, 7), 4, priority=1)
        engine.step()
        assert costs.recompute_s(6) == pytest.approx(1.0), "6 tokens were expected to take 6 s and took one"
        engine.step()
        assert costs.recompute_s(6) == pytest.approx(1.0), "a token is no prompt"
        second = engine.submit(range(11, 17), 4, priority=0)
        finish(engine)
        assert engine.counts.of(OUT)
        assert 0 < costs.out_s(4) < 10
        assert 0 < costs.in_s(4) < 10
        for turn_id in (first, second):
            check_answers([engine.turn(turn_id)])

    def test_prices_switches_with_what_it_learns(self):
        """Copies take far less than is expected; the first return says so."""
        costs = RunningCosts(expected(out=0.0, back=0.9, token=0.5))
        engine = make_engine(device_blocks=6, swaps=InlineSwaps, costs=costs, evictor=CheapestSwitch(costs))
        turns = [engine.submit(range(10 * i + 1, 10 * i + 7), 5, priority=2 - i) for i in range(3)]
        finish(engine)
        assert engine.counts.of(IN)
        assert costs.in_s(3) < 0.5
        for turn_id in turns:
            check_answers([engine.turn(turn_id)])


LAYOUT = KVLayout(num_layers=2, num_kv_heads=1, head_dim=4, block_size=4, dtype="float32")


@pytest.mark.parametrize(
    ("way", "blocks", "seconds"), [("per_run", 3, 1.0), ("per_block", 3, 3.0), ("per_run", 0, 0.0)]
)
def test_of_a_simulated_link_are_those_of_one_run(way, blocks, seconds):
    costs = LinkCosts(EmulatedLink(1e6, float("inf")), LAYOUT, way)
    assert one_run_s(costs, OUT)(blocks) == one_run_s(costs, IN)(blocks) == pytest.approx(seconds)
    assert one_run_s(FreeCosts(), OUT)(blocks) == 0.0


def test_a_simulated_bed_prices_by_its_link_and_its_roofline():
    bed = make_bed(COMPUTING, Link(call_us=2e6, gbps=float("inf")), device_blocks=8)
    costs = bed.switch_costs(SIMULATED_RUNS["paper"])
    assert (costs.out_s(5), costs.in_s(5)) == pytest.approx((4.0, 4.0)), "K and V of one layer, a call each"
    # a second, 4 tokens of 1/4, a sampled one of 1/4, ten pairs of 1/32
    assert costs.recompute_s(4) == pytest.approx(1 + 1 + 0.25 + 10 / 32)
    free = bed.switch_costs(SIMULATED_RUNS["free_switch"])
    assert (free.out_s(5), free.in_s(5)) == (0.0, 0.0)


# 125 blocks of 256 bytes take 32 s at a kilobyte a second, one call; or 4 calls a block, a second each
@pytest.mark.parametrize(("run", "raw_ms", "linked_s"), [("fastswitch", 20.0, 32.0), ("vllm_0_3", 80.0, 500.0)])
@pytest.mark.parametrize("link", [None, EmulatedLink(call_us=1e6, gbps=1e-6)])
def test_a_models_bed_prices_by_what_was_measured(run, raw_ms, linked_s, link):
    blocks = LAYOUT.blocks_for(500)
    raw = {"block_major/per_run": 20.0, "layer_major/per_block": 80.0}
    spec = EngineSpec(LAYOUT, 8, 8, 4, policy=None, check=False)
    bed = ModelBed(None, spec, link, Speeds(200.0, 10.0, 0.1), raw, None)
    costs = bed.switch_costs(SIMULATED_RUNS[run])
    assert costs.out_s(blocks) == costs.in_s(blocks) == pytest.approx(raw_ms / 1e3 + (linked_s if link else 0.0))
    assert (costs.out_s(0), costs.recompute_s(50)) == (0.0, 0.25)
    assert np.isfinite(costs.in_s(10**6))

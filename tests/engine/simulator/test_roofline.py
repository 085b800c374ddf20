"""The seconds of an iteration, each worked out on paper."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator import MODELS, ModelShape, Roofline
from tests.engine.simulator.small_bed import COMPUTING, make_bed

# 3 layers, hidden 10, 4 heads and 2 KV heads of 5, MLP 7, 11 words. No two of its products are equal:
# a layer: Q 10 x 20, K and V 10 x 10, O 20 x 10 are 600; the MLP's three of 10 x 7 are 210; three layers have 2,430.
# The head: 11 x 10 = 110. A pair of query and key: 4 FLOPs x 3 layers x 4 heads x 5 = 240.
# A token's KV: K and V of 3 layers x 2 heads x 5 elements in 2 bytes = 120 bytes.
ODD = ModelShape("odd", "odd", 3, 10, 4, 2, 5, 7, 11, 2, "bfloat16", "made up", 1024)
BY_FLOPS = Roofline(ODD, flops=1000.0, bytes_per_s=math.inf, iteration_s=0.0)
BY_BYTES = Roofline(ODD, flops=math.inf, bytes_per_s=1000.0, iteration_s=0.0)


def test_a_prompt_takes_its_products_and_its_pairs():
    # 2 x 2,430 x 4 tokens + 2 x 110 for the one that is sampled + 240 x (1 + 2 + 3 + 4) pairs
    assert BY_FLOPS.seconds([(0, 4, True)]) == (19_440 + 220 + 2_400) / 1000


def test_a_chunk_behind_a_prefix_attends_to_it():
    # each of the 4 tokens also to the 6 before them: 24 pairs more
    assert BY_FLOPS.seconds([(6, 4, True)]) == (19_440 + 220 + 2_400 + 5_760) / 1000


def test_the_head_is_computed_for_sampled_tokens_alone():
    assert BY_FLOPS.seconds([(0, 4, False)]) == (19_440 + 2_400) / 1000
    assert BY_FLOPS.seconds([(0, 4, False), (3, 1, True)]) == (19_440 + 2_400 + 4_860 + 220 + 960) / 1000


def test_decodes_read_the_weights_once_and_the_kv_of_each():
    # (2,430 + 110) weights of 2 bytes; KV of 10 and 20 tokens read, of 2 written
    assert BY_BYTES.seconds([(9, 1, True), (19, 1, True)]) == (5_080 + 3_600 + 240) / 1000


def test_weights_of_one_byte_are_read_in_half_the_time_and_computed_in_the_same():
    half = replace(ODD, weight_bytes_each=1)
    assert replace(BY_BYTES, model=half).seconds([(9, 1, True)]) == (2_540 + 1_200 + 120) / 1000
    assert replace(BY_FLOPS, model=half).seconds([(0, 4, True)]) == (19_440 + 220 + 2_400) / 1000


def test_the_longer_of_computing_and_reading_counts():
    chunks = [(9, 1, True), (19, 1, True)]  # 2 x (2,430 x 2 + 110 x 2) + 240 x 30 FLOPs; 8,920 bytes
    assert replace(BY_FLOPS, bytes_per_s=1000.0).seconds(chunks) == (10_160 + 7_200) / 1000
    assert replace(BY_FLOPS, flops=10_000.0, bytes_per_s=1000.0).seconds(chunks) == 8_920 / 1000


def test_an_iteration_and_each_request_of_it_take_a_time_besides():
    besides = replace(BY_BYTES, iteration_s=0.5, request_s=0.25)
    assert besides.seconds([(9, 1, True), (19, 1, True)]) == 8_920 / 1000 + 0.5 + 2 * 0.25
    assert besides.seconds([(9, 1, True)]) == (5_080 + 1_200 + 120) / 1000 + 0.5 + 0.25


def test_llama_8b_on_an_a10_with_what_is_assumed_of_it():
    a10 = Roofline(MODELS["llama8b"], flops=75e12, bytes_per_s=480e9, iteration_s=0.003)
    # 2 x 6,979,321,856 x 1000 + 2 x 525,336,576 + 524,288 x 500,500 pairs = 14.222 TFLOPs in 0.18963 s
    assert a10.seconds([(0, 1000, True)]) == pytest.approx(14_222_100_529_152 / 75e12 + 0.003)
    # 7,504,658,432 weights in 2 bytes + 131,072 bytes x (1,001 + 1) tokens = 15.141 GB in 0.03154 s
    assert a10.seconds([(1000, 1, True)]) == pytest.approx(15_140_651_008 / 480e9 + 0.003)


@given(num_tokens=st.integers(2, 5000), data=st.data(), prefix=st.integers(0, 5000), samples=st.booleans())
def test_a_prompt_in_two_chunks_takes_the_flops_of_the_whole(num_tokens, data, prefix, samples):
    cut = data.draw(st.integers(1, num_tokens - 1))
    one_by_one = replace(BY_FLOPS, flops=1.0)  # whole numbers below 2^53: sums are exact
    whole = one_by_one.seconds([(prefix, num_tokens, samples)])
    first, second = [(prefix, cut, False)], [(prefix + cut, num_tokens - cut, samples)]
    assert one_by_one.seconds(first) + one_by_one.seconds(second) == whole
    assert one_by_one.seconds(first + second) == one_by_one.seconds(second + first) == whole


@given(chunks=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3000), st.booleans()), min_size=1, max_size=8))
def test_a_batch_takes_the_flops_of_its_requests_and_reads_the_weights_once(chunks):
    assert replace(BY_FLOPS, flops=1.0).seconds(chunks) == sum(
        replace(BY_FLOPS, flops=1.0).seconds([chunk]) for chunk in chunks
    )
    alone = sum(replace(BY_BYTES, bytes_per_s=1.0).seconds([chunk]) for chunk in chunks)
    assert replace(BY_BYTES, bytes_per_s=1.0).seconds(chunks) == alone - 5_080 * (len(chunks) - 1)


def test_the_executor_lets_the_time_of_each_batch_pass_and_samples_when_the_prompt_is_done():
    bed = make_bed(COMPUTING, device_blocks=8, token_budget=4)
    with bed.engine(SIMULATED_RUNS["free_switch"]) as engine:
        turn = engine.turn(engine.submit(range(6), 2))
        engine.step()
        assert turn.generated == []
        # 4 tokens of 1/4 s, 10 pairs of 1/32 s, none sampled, and a second besides
        assert engine.clock.now() == 1 + 10 / 32 + 1 == 2.3125
        engine.step()
        # 2 tokens, 8 + 3 pairs, one sampled
        assert turn.token_times == [2.3125 + 0.5 + 11 / 32 + 0.25 + 1]
        engine.step()
        # 1 token behind 6: 7 pairs
        assert turn.token_times[1] == 2.3125 + 2.09375 + 0.25 + 7 / 32 + 0.25 + 1
        assert turn.generated == [0, 0]
        assert engine.clock.skipped_s == 0

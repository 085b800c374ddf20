"""Paged attention against one token after the other and against torch's own; every slot nobody wrote holds NaN."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import AttentionPlan, paged_attention, paged_attention_reference, write_kv
from fastswitch.kernels._attention_torch import PIECE_ROWS
from tests.kernels.backends import on_every_device

NUM_BLOCKS = 40


def make_batch(query_lens, seq_lens, *, block_size=4, kv_heads=2, group=3, dim=8, dtype=torch.float64, device="cpu"):
    """Queries, two strided caches poisoned with NaN but for the requests' tokens, and ragged block tables."""
    torch.manual_seed(0)
    free = torch.randperm(NUM_BLOCKS).numpy().astype(np.int32)
    ends = np.cumsum([-(-seq_len // block_size) for seq_len in seq_lens])
    block_tables = np.split(free[: ends[-1]], ends[:-1])
    pool = torch.full((NUM_BLOCKS, 2, 2, block_size, kv_heads, dim), float("nan"), dtype=dtype, device=device)
    k_cache, v_cache = pool[:, 1, 0], pool[:, 1, 1]
    everything = AttentionPlan.build(block_tables, seq_lens, seq_lens, block_size=block_size, device=device)
    key, value = (torch.randn(sum(seq_lens), kv_heads, dim, dtype=dtype, device=device) for _ in range(2))
    write_kv(key, value, k_cache, v_cache, everything.slot_mapping)
    query = torch.randn(sum(query_lens), kv_heads * group, dim, dtype=dtype, device=device)
    return query, k_cache, v_cache, block_tables, key, value


lengths = st.integers(1, 17).flatmap(lambda seq_len: st.tuples(st.integers(1, seq_len) | st.just(1), st.just(seq_len)))


@on_every_device
@given(
    requests=st.lists(lengths, min_size=1, max_size=5),
    block_size=st.sampled_from([1, 2, 5, 16]),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    sliding_window=st.none() | st.integers(1, 20),
    softcap=st.none() | st.just(1.5),
    with_sinks=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_equals_reference(device, requests, block_size, kv_heads, group, sliding_window, softcap, with_sinks):
    query_lens, seq_lens = (list(column) for column in zip(*requests, strict=True))
    if sum(-(-seq_len // block_size) for seq_len in seq_lens) > NUM_BLOCKS:
        query_lens, seq_lens = query_lens[:2], seq_lens[:2]
    query, k_cache, v_cache, block_tables, _, _ = make_batch(
        query_lens, seq_lens, block_size=block_size, kv_heads=kv_heads, group=group, dim=4, device=device
    )
    plan = AttentionPlan.build(block_tables, query_lens, seq_lens, block_size=block_size, device=device)
    sinks = torch.randn(kv_heads * group, dtype=torch.float64, device=device) if with_sinks else None
    rules = {"scale": 0.7, "sliding_window": sliding_window, "softcap": softcap, "sinks": sinks}
    out = paged_attention(query, k_cache, v_cache, plan, **rules)
    expected = paged_attention_reference(query, k_cache, v_cache, block_tables, query_lens, seq_lens, **rules)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)


def attend_with_torch(query, key, value, *, sliding_window=None):
    """One request by torch's own attention, in float64; ``[query_len, heads, dim]`` on ``[seq_len, kv_heads, dim]``."""
    query_len, seq_len = len(query), len(key)
    seen = torch.ones(query_len, seq_len, dtype=torch.bool, device=query.device).tril(seq_len - query_len)
    if sliding_window is not None:
        seen &= seen.triu(seq_len - query_len - sliding_window + 1)
    by_head = [tensor.transpose(0, 1)[None].double() for tensor in (query, key, value)]
    out = torch.nn.functional.scaled_dot_product_attention(*by_head, attn_mask=seen, enable_gqa=True)
    return out[0].transpose(0, 1)


@on_every_device
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)],
)
def test_equals_torch(device, dtype, tolerance):
    query_lens, seq_lens = [1, 9, 4, 1], [13, 9, 20, 1]
    query, k_cache, v_cache, block_tables, key, value = make_batch(query_lens, seq_lens, dtype=dtype, device=device)
    plan = AttentionPlan.build(block_tables, query_lens, seq_lens, block_size=4, device=device)
    out = paged_attention(query, k_cache, v_cache, plan, scale=8**-0.5)
    assert out.dtype == dtype
    requests = (query.split(query_lens), key.split(seq_lens), value.split(seq_lens), out.split(query_lens))
    for q, k, v, found in zip(*requests, strict=True):
        torch.testing.assert_close(found.double(), attend_with_torch(q, k, v), rtol=tolerance, atol=tolerance)


@on_every_device
@pytest.mark.parametrize("sliding_window", [None, 1, 30, PIECE_ROWS, 3 * PIECE_ROWS])
def test_a_chunk_of_several_pieces(device, sliding_window):
    query_len, seq_len = 2 * PIECE_ROWS + 30, 2 * PIECE_ROWS + 97
    query, k_cache, v_cache, block_tables, key, value = make_batch([query_len], [seq_len], block_size=32, device=device)
    plan = AttentionPlan.build(block_tables, [query_len], [seq_len], block_size=32, device=device)
    out = paged_attention(query, k_cache, v_cache, plan, scale=8**-0.5, sliding_window=sliding_window)
    expected = attend_with_torch(query, key, value, sliding_window=sliding_window)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)


def test_slots_behind_every_window_may_hold_nan():
    query, k_cache, v_cache, block_tables, _, _ = make_batch([1, 1], [20, 12])
    plan = AttentionPlan.build(block_tables, [1, 1], [20, 12], block_size=4, device="cpu")
    whole = paged_attention(query, k_cache, v_cache, plan, scale=0.5, sliding_window=4)
    for cache in (k_cache, v_cache):
        cache[[*block_tables[0][:4].tolist(), *block_tables[1][:2].tolist()]] = float("nan")
    assert torch.equal(paged_attention(query, k_cache, v_cache, plan, scale=0.5, sliding_window=4), whole)


def test_chunked_prefill_equals_one_prefill():
    query, k_cache, v_cache, block_tables, _, _ = make_batch([19], [19])
    whole = AttentionPlan.build(block_tables, [19], [19], block_size=4, device="cpu")
    expected = paged_attention(query, k_cache, v_cache, whole, scale=0.5)
    for stop in range(1, 20):
        plan = AttentionPlan.build(block_tables, [min(stop, 6)], [stop], block_size=4, device="cpu")
        rows = slice(stop - min(stop, 6), stop)
        torch.testing.assert_close(paged_attention(query[rows], k_cache, v_cache, plan, scale=0.5), expected[rows])


def test_slot_mapping_names_the_new_tokens():
    tables = [np.array([7, 2], dtype=np.int32), np.array([5, 9, 1], dtype=np.int32)]
    plan = AttentionPlan.build(tables, [3, 1], [6, 9], block_size=4, device="cpu")
    assert plan.slot_mapping.tolist() == [7 * 4 + 3, 2 * 4, 2 * 4 + 1, 1 * 4]
    assert plan.num_tokens == 4


def test_an_empty_batch():
    plan = AttentionPlan.build([], [], [], block_size=4, device="cpu")
    assert plan.slot_mapping.tolist() == []
    cache = torch.zeros(2, 4, 1, 8)
    assert paged_attention(torch.zeros(0, 2, 8), cache, cache, plan, scale=1.0).shape == (0, 2, 8)


TABLE = np.array([3, 4], dtype=np.int32)
PLAN = AttentionPlan.build([TABLE], [2], [5], block_size=4, device="cpu")


def build(tables, query_lens, seq_lens):
    return AttentionPlan.build(tables, query_lens, seq_lens, block_size=4, device="cpu")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build([TABLE], [0], [5]), "query_len must be in [1, seq_len], got 0 of 5 in request 0"),
        (lambda: build([TABLE, TABLE], [1, 6], [5, 5]), "query_len must be in [1, seq_len], got 6 of 5 in request 1"),
        (lambda: build([TABLE], [1], [9]), "request 0 needs 3 blocks, its table has 2"),
        (
            lambda: build([TABLE], [1, 1], [5]),
            "every request needs a table and two lengths, got 1 tables, 2 query_lens and 1 seq_lens",
        ),
        (
            lambda: paged_attention(torch.zeros(3, 2, 8), *[torch.zeros(5, 4, 2, 8)] * 2, PLAN, scale=1.0),
            "query must have the plan's 2 rows, got 3",
        ),
        (
            lambda: paged_attention(torch.zeros(2, 3, 8), *[torch.zeros(5, 4, 2, 8)] * 2, PLAN, scale=1.0),
            "heads must be a multiple of the 2 KV heads, got 3",
        ),
        (
            lambda: paged_attention(torch.zeros(2, 2, 8), *[torch.zeros(5, 8, 2, 8)] * 2, PLAN, scale=1.0),
            "cache must have the plan's block size 4, got 8",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()

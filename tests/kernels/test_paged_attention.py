"""Paged attention against one token after the other and against torch's own; every slot nobody wrote holds NaN."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import AttentionPlan, paged_attention, paged_attention_reference
from fastswitch.kernels._attention_launch import attend_in_triton
from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels._attention_torch import PIECE_ROWS
from tests.kernels.attention_batches import (
    NAN,
    TOLERANCES,
    fitting,
    lengths,
    make_batch,
    on_every_kernel_backend,
    virtual_memory,
)
from tests.kernels.backends import INTERPRETED, in_large_memory, on_every_backend

windows = st.none() | st.integers(1, 20)
caps = st.none() | st.just(1.5)


def reference(batch, **rules):
    tables = [table.tolist() for table in batch.block_tables]
    return paged_attention_reference(*batch.tensors, tables, batch.query_lens, batch.seq_lens, **rules)


@on_every_backend
@given(
    requests=st.lists(lengths, min_size=1, max_size=4),
    block_size=st.sampled_from([1, 2, 5, 16]),
    heads=st.sampled_from([(1, 1), (1, 3), (2, 2), (1, 8), (2, 4)]),
    dim=st.sampled_from([1, 4, 24]),
    dtype=st.sampled_from(list(TOLERANCES)),
    order=st.sampled_from(["block_major", "layer_major"]),
    sliding_window=windows,
    softcap=caps,
    with_sinks=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_equals_reference(device, requests, block_size, heads, dim, dtype, order, sliding_window, softcap, with_sinks):
    kv_heads, group = heads
    query_lens, seq_lens = fitting(requests, block_size)
    batch = make_batch(
        query_lens,
        seq_lens,
        block_size=block_size,
        kv_heads=kv_heads,
        group=group,
        dim=dim,
        dtype=dtype,
        device=device,
        order=order,
    )
    sinks = torch.randn(kv_heads * group, device=device).to(dtype) if with_sinks else None
    rules = {"scale": 0.7, "sliding_window": sliding_window, "softcap": softcap, "sinks": sinks}
    out = paged_attention(*batch.tensors, batch.plan(), **rules)
    assert out.dtype == dtype
    assert out.is_contiguous()
    torch.testing.assert_close(out, reference(batch, **rules), **TOLERANCES[dtype])


@on_every_kernel_backend
@given(
    requests=st.lists(lengths, min_size=1, max_size=2),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    num_splits=st.integers(2, 4),
    sliding_window=windows,
    softcap=caps,
    with_sinks=st.booleans(),
)
@settings(deadline=None, max_examples=8)
def test_splits_of_the_keys_equal_the_whole(device, requests, dtype, num_splits, sliding_window, softcap, with_sinks):
    stretched = [(query_len, 8 * seq_len) for query_len, seq_len in requests]
    query_lens, seq_lens = fitting(stretched, 16)
    batch = make_batch(query_lens, seq_lens, block_size=16, kv_heads=1, dtype=dtype, device=device)
    sinks = torch.randn(3, device=device) if with_sinks else None
    window = None if sliding_window is None else 5 * sliding_window
    out, lse = torch.empty(batch.query.shape, dtype=dtype, device=device), None
    rules = AttentionRules(0.7, window, softcap, sinks)
    attend_in_triton(*batch.tensors, batch.plan().index, rules, out, lse, num_splits=num_splits)
    expected = reference(batch, scale=0.7, sliding_window=window, softcap=softcap, sinks=sinks)
    torch.testing.assert_close(out, expected, **TOLERANCES[dtype])


def attend_with_torch(query, key, value, *, sliding_window=None):
    """One request by torch's own attention, in float64; ``[query_len, heads, dim]`` on ``[seq_len, kv_heads, dim]``."""
    query_len, seq_len = len(query), len(key)
    seen = torch.ones(query_len, seq_len, dtype=torch.bool, device=query.device).tril(seq_len - query_len)
    if sliding_window is not None:
        seen &= seen.triu(seq_len - query_len - sliding_window + 1)
    by_head = [tensor.transpose(0, 1)[None].double() for tensor in (query, key, value)]
    out = torch.nn.functional.scaled_dot_product_attention(*by_head, attn_mask=seen, enable_gqa=True)
    return out[0].transpose(0, 1)


@on_every_backend
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("dim", [64, 80, 128, 256])
def test_equals_torch(device, dtype, dim):
    batch = make_batch([1, 9, 4, 1], [13, 9, 40, 1], dim=dim, dtype=dtype, device=device)
    out = paged_attention(*batch.tensors, batch.plan(), scale=dim**-0.5)
    requests = (batch.query.split(batch.query_lens), batch.key.split(batch.seq_lens), batch.value.split(batch.seq_lens))
    for q, k, v, found in zip(*requests, out.split(batch.query_lens), strict=True):
        torch.testing.assert_close(found.double(), attend_with_torch(q, k, v), **TOLERANCES[dtype])


@on_every_backend
@pytest.mark.parametrize("sliding_window", [None, 1, 30, PIECE_ROWS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_chunk_of_several_tiles(device, sliding_window, dtype):
    query_len, seq_len = PIECE_ROWS + 30, PIECE_ROWS + 97
    batch = make_batch([query_len], [seq_len], block_size=32, kv_heads=1, group=2, dtype=dtype, device=device)
    out = paged_attention(*batch.tensors, batch.plan(), scale=8**-0.5, sliding_window=sliding_window)
    expected = attend_with_torch(batch.query, batch.key, batch.value, sliding_window=sliding_window)
    torch.testing.assert_close(out.double(), expected, **TOLERANCES[dtype])


@on_every_backend
@pytest.mark.parametrize("group", [1, 2, 5, 16, 40])
@pytest.mark.parametrize("query_len", [1, 20])
def test_heads_of_every_grouping(device, group, query_len):
    batch = make_batch([query_len], [40], kv_heads=1, group=group, dtype=torch.bfloat16, device=device)
    out = paged_attention(*batch.tensors, batch.plan(), scale=8**-0.5)
    expected = attend_with_torch(batch.query, batch.key, batch.value)
    torch.testing.assert_close(out.double(), expected, **TOLERANCES[torch.bfloat16])


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slots_behind_every_window_may_hold_nan(device, dtype):
    batch = make_batch([1, 1, 3], [20, 12, 30], dtype=dtype, device=device)
    rules = {"scale": 0.5, "sliding_window": 4}
    whole = paged_attention(*batch.tensors, batch.plan(), **rules)
    for cache in (batch.k_cache, batch.v_cache):
        for table, num_blocks in zip(batch.block_tables, (4, 2, 6), strict=True):
            cache[table[:num_blocks].tolist()] = NAN
    assert torch.equal(paged_attention(*batch.tensors, batch.plan(), **rules), whole)


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_blocks_of_others_may_hold_nan(device, dtype):
    batch = make_batch([1, 5, 1, 7], [10, 11, 12, 13], dtype=dtype, device=device)
    whole = paged_attention(*batch.tensors, batch.plan(), scale=0.5)
    for request, rows in ((1, slice(1, 6)), (2, slice(6, 7))):
        others = np.concatenate([table for each, table in enumerate(batch.block_tables) if each != request])
        k_cache, v_cache = batch.k_cache.clone(), batch.v_cache.clone()
        k_cache[others.tolist()] = v_cache[others.tolist()] = NAN
        out = paged_attention(batch.query, k_cache, v_cache, batch.plan(), scale=0.5)
        assert torch.equal(out[rows], whole[rows])


@on_every_backend
def test_weights_that_overflow_without_a_shift(device):
    batch = make_batch([1, 5], [40, 21], dtype=torch.float32, device=device)
    out = paged_attention(*batch.tensors, batch.plan(), scale=300.0)
    torch.testing.assert_close(out, reference(batch, scale=300.0), rtol=1e-3, atol=1e-4)


@on_every_backend
@pytest.mark.parametrize("logit", [-300.0, 300.0])
def test_sinks_that_take_all_or_nothing(device, logit):
    batch = make_batch([1, 5], [13, 7], dtype=torch.float32, device=device)
    sinks = torch.full((6,), logit, device=device)
    out = paged_attention(*batch.tensors, batch.plan(), scale=0.5, sinks=sinks)
    without = paged_attention(*batch.tensors, batch.plan(), scale=0.5)
    torch.testing.assert_close(out, torch.zeros_like(out) if logit > 0 else without)


def test_chunked_prefill_equals_one_prefill():
    batch = make_batch([19], [19])
    expected = paged_attention(*batch.tensors, batch.plan(), scale=0.5)
    for stop in range(1, 20):
        plan = AttentionPlan.build(batch.block_tables, [min(stop, 6)], [stop], block_size=4, device="cpu")
        rows = slice(stop - min(stop, 6), stop)
        out = paged_attention(batch.query[rows], batch.k_cache, batch.v_cache, plan, scale=0.5)
        torch.testing.assert_close(out, expected[rows])


@in_large_memory
@on_every_backend
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_caches_beyond_32_bits(device, dim):
    """Strides that take the last block, slot, head or element of a cache beyond 2 ** 31 elements."""
    batch = make_batch([1, 3], [9, 7], kv_heads=3, group=2, dim=3, dtype=torch.bfloat16, device=device)
    block_ids = np.concatenate(batch.block_tables).tolist()
    shape, strides = batch.k_cache.shape, [36, 9, 3, 1]
    strides[dim] = (1 << 31) // (max(block_ids) if dim == 0 else shape[dim] - 1) + 1
    numel = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    caches = [virtual_memory(numel, torch.bfloat16, device).as_strided(shape, strides) for _ in range(2)]
    for cache, filled in zip(caches, (batch.k_cache, batch.v_cache), strict=True):
        for block_id in block_ids:
            cache[block_id] = filled[block_id]
    out = paged_attention(batch.query, *caches, batch.plan(), scale=0.5)
    assert torch.equal(out, paged_attention(*batch.tensors, batch.plan(), scale=0.5))


@in_large_memory
@on_every_backend
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_queries_beyond_32_bits(device, dim):
    batch = make_batch([1, 3], [9, 7], dim=3, dtype=torch.bfloat16, device=device)
    shape, strides = batch.query.shape, [18, 3, 1]
    strides[dim] = (1 << 31) // (shape[dim] - 1) + 1
    numel = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    query = virtual_memory(numel, torch.bfloat16, device).as_strided(shape, strides)
    query.copy_(batch.query)
    out = paged_attention(query, batch.k_cache, batch.v_cache, batch.plan(), scale=0.5)
    assert torch.equal(out, paged_attention(*batch.tensors, batch.plan(), scale=0.5))


@on_every_backend
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, for the rows that do see them
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keys_after_a_tile_of_rows_may_hold_nan(device, dtype):
    batch = make_batch([200], [230], block_size=16, kv_heads=1, group=2, dtype=dtype, device=device)
    whole = paged_attention(*batch.tensors, batch.plan(), scale=0.5)
    for cache in (batch.k_cache, batch.v_cache):
        cache[batch.block_tables[0][6:].tolist()] = NAN  # from position 96 on: the row of that position is row 66
    assert torch.equal(paged_attention(*batch.tensors, batch.plan(), scale=0.5)[:64], whole[:64])


@on_every_backend
def test_an_empty_batch(device):
    plan = AttentionPlan.build([], [], [], block_size=4, device=device)
    assert plan.slot_mapping.tolist() == []
    cache = torch.zeros(2, 4, 1, 8, device=device)
    assert paged_attention(torch.zeros(0, 2, 8, device=device), cache, cache, plan, scale=1.0).shape == (0, 2, 8)


@on_every_kernel_backend
def test_a_head_too_large_for_the_kernel(device):
    plan = AttentionPlan.build([np.array([0], dtype=np.int32)], [1], [1], block_size=4, device=device)
    cache = torch.zeros(2, 4, 1, 257, device=device)
    message = "head_dim must be at most 256 in the Triton kernel, got 257: attend on the CPU or in float64"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        paged_attention(cache[:1, 0], cache, cache, plan, scale=1.0)
    out = paged_attention(cache[:1, 0].double(), cache.double(), cache.double(), plan, scale=1.0)
    assert not out.any()


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has the kernel's limit")
def test_a_head_too_large_for_the_kernel_is_none_on_the_cpu():
    batch = make_batch([1], [5], dim=300)
    torch.testing.assert_close(
        paged_attention(*batch.tensors, batch.plan(), scale=0.1),
        reference(batch, scale=0.1),
        **TOLERANCES[torch.float64],
    )


TABLE = np.array([3, 4], dtype=np.int32)
PLAN = AttentionPlan.build([TABLE], [2], [5], block_size=4, device="cpu")
QUERY, CACHE = torch.zeros(2, 2, 8), torch.zeros(5, 4, 2, 8)
ONE_SHAPE = "k_cache and v_cache must have one shape, and the query's head_dim, got "
SHAPES = (
    "query must be [num_tokens, num_heads, head_dim] and caches [num_blocks, block_size, num_kv_heads, head_dim], got "
)


@pytest.mark.parametrize(
    ("arguments", "rules", "message"),
    [
        ((torch.zeros(3, 2, 8), CACHE, CACHE), {}, "query must have the plan's 2 rows, got 3"),
        ((torch.zeros(2, 3, 8), CACHE, CACHE), {}, "heads must be a multiple of the 2 KV heads, got 3"),
        ((QUERY, *[torch.zeros(5, 8, 2, 8)] * 2), {}, "cache must have the plan's block size 4, got 8"),
        ((QUERY, CACHE, CACHE[..., :4]), {}, ONE_SHAPE + "[5, 4, 2, 8], [5, 4, 2, 4] and head_dim 8"),
        ((QUERY[0], CACHE, CACHE), {}, SHAPES + "[2, 8] and [5, 4, 2, 8]"),
        ((QUERY.to("meta"), CACHE, CACHE), {}, "query, caches and plan must be on one device, got ['cpu', 'meta']"),
        ((QUERY, CACHE, CACHE), {"sliding_window": 0}, "sliding_window must be at least 1, got 0"),
        ((QUERY, CACHE, CACHE), {"softcap": 0.0}, "softcap must be positive, got 0.0"),
        (
            (QUERY, CACHE, CACHE),
            {"sinks": torch.zeros(3)},
            "sinks must be one logit a head, (2,) on cpu, got (3,) on cpu",
        ),
    ],
)
def test_bad_input(arguments, rules, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        paged_attention(*arguments, PLAN, scale=1.0, **rules)

"""Attention over ranges of the keys, and that merged ranges are the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import (
    AttentionPlan,
    merge_attention,
    paged_attention,
    partial_attention,
    partial_attention_reference,
)
from fastswitch.kernels._attention_launch import attend_in_triton
from fastswitch.kernels._attention_rules import AttentionRules
from tests.kernels.attention_batches import (
    TOLERANCES,
    fitting,
    lengths,
    make_batch,
    on_every_kernel_backend,
)
from tests.kernels.backends import on_every_backend

windows = st.none() | st.integers(1, 20)
ALIKE = {"rtol": 1e-4, "atol": 1e-5}


def ranges_of(batch, starts, counts):
    """A plan whose tables begin at block ``starts[i]`` and hold ``counts[i]`` keys; and what a reference takes."""
    block_size = batch.k_cache.shape[1]
    tables = [table[start:] for table, start in zip(batch.block_tables, starts, strict=True)]
    ranges = {"key_starts": [start * block_size for start in starts], "num_keys": list(counts)}
    plan = AttentionPlan.build(
        tables, batch.query_lens, batch.seq_lens, block_size=block_size, device=batch.query.device, **ranges
    )
    return plan, ([table.tolist() for table in tables], batch.query_lens, batch.seq_lens), ranges


@st.composite
def batches_with_ranges(draw):
    query_lens, seq_lens = fitting(draw(st.lists(lengths, min_size=1, max_size=3)), 4)
    starts = [draw(st.integers(0, -(-seq_len // 4))) for seq_len in seq_lens]
    counts = [
        draw(st.integers(0, max(0, seq_len - 4 * start))) for seq_len, start in zip(seq_lens, starts, strict=True)
    ]
    starts = [min(start, seq_len // 4) for start, seq_len in zip(starts, seq_lens, strict=True)]
    return query_lens, seq_lens, starts, counts


@on_every_backend
@given(
    ranges=batches_with_ranges(),
    dtype=st.sampled_from(list(TOLERANCES)),
    sliding_window=windows,
    softcap=st.none() | st.just(1.5),
)
@settings(deadline=None, max_examples=25)
def test_equals_reference(device, ranges, dtype, sliding_window, softcap):
    query_lens, seq_lens, starts, counts = ranges
    batch = make_batch(query_lens, seq_lens, group=2, dtype=dtype, device=device)
    plan, lists, ranges = ranges_of(batch, starts, counts)
    rules = {"scale": 0.7, "sliding_window": sliding_window, "softcap": softcap}
    out, lse = partial_attention(*batch.tensors, plan, **rules)
    expected, expected_lse = partial_attention_reference(*batch.tensors, *lists, **rules, **ranges)
    assert out.dtype == lse.dtype == torch.promote_types(dtype, torch.float32)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(out, expected, **tolerance)
    torch.testing.assert_close(lse, expected_lse, **tolerance)


@on_every_backend
@given(
    requests=st.lists(lengths, min_size=1, max_size=3),
    data=st.data(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    sliding_window=windows,
    with_sinks=st.booleans(),
)
@settings(deadline=None, max_examples=20)
def test_two_parts_are_the_whole(device, requests, data, dtype, sliding_window, with_sinks):
    query_lens, seq_lens = fitting(requests, 4)
    batch = make_batch(query_lens, seq_lens, group=2, dtype=dtype, device=device)
    cuts = [data.draw(st.integers(0, seq_len // 4)) for seq_len in seq_lens]
    sinks = torch.randn(4, dtype=dtype, device=device) if with_sinks else None
    rules = {"scale": 0.7, "sliding_window": sliding_window}
    whole = paged_attention(*batch.tensors, batch.plan(), sinks=sinks, **rules)
    rest = [seq_len - 4 * cut for seq_len, cut in zip(seq_lens, cuts, strict=True)]
    head, _, _ = ranges_of(batch, [0] * len(cuts), [4 * cut for cut in cuts])
    tail, _, _ = ranges_of(batch, cuts, rest)
    parts = [partial_attention(*batch.tensors, plan, **rules) for plan in (head, tail)]
    outs, lses = zip(*parts, strict=True)
    torch.testing.assert_close(merge_attention(outs, lses, sinks), whole, **ALIKE)


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_sees_no_key(device, dtype):
    batch = make_batch([3, 1, 1], [11, 9, 4], dtype=dtype, device=device)
    # rows 8 to 10 and 8 of the first two see keys up to 3, or none through a window; the last has no table at all
    plan, _, _ = ranges_of(batch, [0, 0, 0], [4, 4, 0])
    out, lse = partial_attention(*batch.tensors, plan, scale=0.5, sliding_window=6)
    assert lse.isinf().all(-1).tolist() == [False, True, True, False, True]
    assert not out[[1, 2, 4]].any()
    merged = merge_attention([out, out], [lse, torch.full_like(lse, float("-inf"))])
    torch.testing.assert_close(merged, out, **ALIKE)


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_whole_is_its_one_part_rounded_to_the_nearest(device, dtype):
    batch = make_batch([1, 5], [13, 9], dim=64, dtype=dtype, device=device)
    out, _ = partial_attention(*batch.tensors, batch.plan(), scale=0.2)
    assert torch.equal(paged_attention(*batch.tensors, batch.plan(), scale=0.2), out.to(dtype))


@on_every_backend
def test_paged_attention_without_any_key(device):
    batch = make_batch([1, 2], [9, 9], dtype=torch.float32, device=device)
    plan, _, _ = ranges_of(batch, [0, 0], [0, 0])
    sinks = torch.zeros(6, device=device)
    assert not paged_attention(*batch.tensors, plan, scale=0.5).any()
    assert not paged_attention(*batch.tensors, plan, scale=0.5, sinks=sinks).any()


@on_every_backend
def test_a_shared_prefix_is_attended_once_for_all(device):
    """Two requests read one prefix: their tables of it name the same blocks, their own tokens lie elsewhere."""
    batch = make_batch([2, 1], [13, 10], dtype=torch.float32, device=device)
    prefix = batch.block_tables[0][:2]
    own = [table[2:] for table in batch.block_tables]
    common = {"block_size": 4, "device": device}
    on_prefix = AttentionPlan.build([prefix] * 2, [2, 1], [13, 10], key_starts=[0, 0], num_keys=[8, 8], **common)
    on_own = AttentionPlan.build(own, [2, 1], [13, 10], key_starts=[8, 8], **common)
    together = AttentionPlan.build([[*prefix, *table] for table in own], [2, 1], [13, 10], **common)
    parts = [partial_attention(*batch.tensors, plan, scale=0.5) for plan in (on_prefix, on_own)]
    outs, lses = zip(*parts, strict=True)
    torch.testing.assert_close(
        merge_attention(outs, lses), paged_attention(*batch.tensors, together, scale=0.5), **ALIKE
    )


@on_every_kernel_backend
@pytest.mark.parametrize("sliding_window", [None, 50])
def test_splits_of_a_part_keep_its_lse(device, sliding_window):
    batch = make_batch([1, 18], [150, 130], block_size=16, kv_heads=1, dtype=torch.float32, device=device)
    plan, lists, ranges = ranges_of(batch, [1, 0], [130, 100])
    out, lse = torch.empty(batch.query.shape, device=device), torch.empty(batch.query.shape[:2], device=device)
    rules = AttentionRules(0.5, sliding_window, None, None)
    attend_in_triton(*batch.tensors, plan.index, rules, out, lse, num_splits=3)
    expected, expected_lse = partial_attention_reference(
        *batch.tensors, *lists, scale=0.5, sliding_window=sliding_window, **ranges
    )
    torch.testing.assert_close(out, expected, **ALIKE)
    torch.testing.assert_close(lse, expected_lse, **ALIKE)

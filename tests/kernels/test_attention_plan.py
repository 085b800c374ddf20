"""Plans: slots and indexes against loops over requests and rows, and that one copy brings them to a device."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import AttentionPlan
from fastswitch.kernels._attention_tile import MAX_SPLITS, choose_splits, choose_tile
from fastswitch.kernels._kernel_index import STRIP_ROWS
from tests.kernels.backends import on_every_device

BLOCK_SIZE = 4
# (query_len, seq_len, key_start, num_keys)
requests = st.integers(1, 70).flatmap(
    lambda seq_len: st.integers(0, seq_len).flatmap(
        lambda start: st.tuples(
            st.just(1) | st.integers(1, seq_len), st.just(seq_len), st.just(start), st.integers(0, seq_len - start)
        )
    )
)


def build(tables, query_lens, seq_lens, device="cpu", **ranges):
    return AttentionPlan.build(tables, query_lens, seq_lens, block_size=BLOCK_SIZE, device=device, **ranges)


def plan_of(batch, device="cpu"):
    """A plan, the tables it was built of, and for each row its request, and its position counted from the first key."""
    blocks = iter(np.random.default_rng(0).permutation(20 * len(batch)))
    tables = [np.array([next(blocks) for _ in range(20)], dtype=np.int32) for _ in batch]
    query_lens, seq_lens, key_starts, num_keys = (list(column) for column in zip(*batch, strict=True))
    plan = build(tables, query_lens, seq_lens, device, key_starts=key_starts, num_keys=num_keys)
    rows = [
        (request, position - key_start)
        for request, (query_len, seq_len, key_start, _) in enumerate(batch)
        for position in range(seq_len - query_len, seq_len)
    ]
    return plan, tables, rows


@on_every_device
@given(batch=st.lists(requests, min_size=1, max_size=6))
@settings(deadline=None)
def test_slots_are_those_of_rows_whose_key_is_held(device, batch):
    plan, tables, rows = plan_of(batch, device)
    expected = [
        tables[request][key // BLOCK_SIZE] * BLOCK_SIZE + key % BLOCK_SIZE if 0 <= key < batch[request][3] else -1
        for request, key in rows
    ]
    assert plan.slot_mapping.dtype == torch.int64
    assert plan.slot_mapping.tolist() == expected
    assert plan.num_tokens == len(rows)


@on_every_device
@given(batch=st.lists(requests, min_size=1, max_size=6))
@settings(deadline=None)
def test_strips_cover_every_row_once(device, batch):
    plan, tables, rows = plan_of(batch, device)
    index, seen = plan.index, []
    for strips in (index.decodes, index.chunks):
        for request, first in strips.index.tolist():
            first_row, query_len, position, num_keys, table_start = index.requests[request].tolist()
            assert (query_len == 1) == (strips.rows == 1)
            assert strips.max_keys >= num_keys
            num_blocks = -(-num_keys // BLOCK_SIZE)
            table = index.block_ids[table_start : table_start + num_blocks].tolist()
            assert table == tables[request][:num_blocks].tolist()
            for row in range(first, min(first + strips.rows, query_len)):
                assert rows[first_row + row] == (request, position + row)
                seen.append(first_row + row)
    assert sorted(seen) == list(range(len(rows)))


def test_one_copy_brings_all_indexes():
    plan, _, _ = plan_of([(1, 9, 0, 9), (40, 60, 4, 50)])
    index = plan.index
    views = [index.slot_mapping, index.requests, index.block_ids, index.decodes.index, index.chunks.index]
    assert len({view.untyped_storage().data_ptr() for view in views}) == 1


def test_slot_mapping_names_the_new_tokens():
    tables = [np.array([7, 2], dtype=np.int32), np.array([5, 9, 1], dtype=np.int32)]
    plan = build(tables, [3, 1], [6, 9])
    assert plan.slot_mapping.tolist() == [7 * 4 + 3, 2 * 4, 2 * 4 + 1, 1 * 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("strip_rows", [1, STRIP_ROWS])
@pytest.mark.parametrize("head_dim", [1, 64, 80, 256])
def test_tiles_fit_their_heads_and_rows(head_dim, strip_rows, dtype):
    for group in range(1, 130):
        tile = choose_tile(group, strip_rows, head_dim, dtype)
        assert tile.m >= max(16, tile.heads * tile.strips * strip_rows)
        assert tile.heads & (tile.heads - 1) == 0
        assert tile.dim >= max(16, head_dim)
        assert strip_rows > 1 or tile.strips == 1


@pytest.mark.parametrize(
    ("seq_lens", "kv_heads", "num_splits"),
    [
        ([4096] * 64, 8, 1),  # 512 programs for 132 multiprocessors: enough without a split
        ([1024] * 16, 8, 4),
        ([32768], 8, 64),
        ([100], 1, 1),
        ([32768] + [100] * 63, 8, 55),  # the short ones do not keep the long one whole
    ],
)
def test_keys_are_split_until_the_device_is_busy(seq_lens, kv_heads, num_splits):
    tables = [np.zeros(seq_len // BLOCK_SIZE, dtype=np.int32) for seq_len in seq_lens]
    strips = build(tables, [1] * len(seq_lens), seq_lens).index.decodes
    tile = choose_tile(4, 1, 128, torch.bfloat16)
    part_numel = len(seq_lens) * 4 * kv_heads * 128
    assert choose_splits(strips, tile, kv_heads, strips.max_keys, part_numel, num_sms=132) == num_splits <= MAX_SPLITS


def test_parts_of_a_large_ragged_batch_stay_small():
    query_lens, seq_lens = [512] * 64 + [16], [512] * 64 + [32768]
    tables = [np.zeros(seq_len // BLOCK_SIZE, dtype=np.int32) for seq_len in seq_lens]
    strips = build(tables, query_lens, seq_lens).index.chunks
    part_numel = len(strips.index) * strips.rows * 32 * 128
    tile = choose_tile(4, strips.rows, 128, torch.bfloat16)
    assert choose_splits(strips, tile, 8, strips.max_keys, part_numel, num_sms=132) == 1


TABLE = np.array([3, 4], dtype=np.int32)


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
            lambda: build([TABLE], [1], [5], num_keys=[5, 5]),
            "every request needs a key_start and num_keys if any has, got 1 key_starts and 2 num_keys for 1 requests",
        ),
        (
            lambda: build([TABLE], [1], [5], key_starts=[2], num_keys=[4]),
            "keys must lie in [0, seq_len), got [2, 6) of 5 in request 0",
        ),
        (
            lambda: build([TABLE], [1], [5], key_starts=[-1]),
            "keys must lie in [0, seq_len), got [-1, 5) of 5 in request 0",
        ),
        (
            lambda: build([TABLE], [1], [5], key_starts=[6]),
            "keys must lie in [0, seq_len), got [6, 5) of 5 in request 0",
        ),
        (lambda: build([TABLE], [1], [12], key_starts=[2], num_keys=[9]), "request 0 needs 3 blocks, its table has 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()

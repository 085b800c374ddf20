"""Writing KV against one token after the other, in caches that are strided views; all memory is compared."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import write_kv, write_kv_reference
from tests.kernels.backends import LAYOUTS, make_pool, on_every_device, random_bytes, same_bytes


def caches(pool, layer):
    """Views ``[num_blocks, block_size, heads, dim]`` of one layer's K and V."""
    kv = pool[layer] if isinstance(pool, tuple) else pool[:, layer]
    return kv[:, 0], kv[:, 1]


@on_every_device
@given(
    data=st.data(),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    block_size=st.integers(1, 4),
    num_blocks=st.integers(1, 6),
    heads=st.integers(1, 3),
    dim=st.sampled_from([1, 3, 8]),
)
@settings(deadline=None)
def test_equals_reference(device, data, layout, dtype, block_size, num_blocks, heads, dim):
    free = st.permutations(range(num_blocks * block_size))
    num_padded, num_written = data.draw(st.integers(0, 3)), data.draw(st.integers(0, num_blocks * block_size))
    slots = data.draw(st.permutations([-1] * num_padded + data.draw(free)[:num_written]))
    slot_mapping = torch.tensor(slots, dtype=torch.int64, device=device)
    key, value = (random_bytes((len(slots), heads, dim), dtype, seed=seed, device=device) for seed in (1, 2))
    shape = (2, 2, block_size, heads, dim)
    pool, memory = make_pool(layout, num_blocks, shape, dtype, seed=3, device=device)
    expected, expected_memory = make_pool(layout, num_blocks, shape, dtype, seed=3, device=device)
    write_kv(key, value, *caches(pool, 1), slot_mapping)
    write_kv_reference(key, value, *caches(expected, 1), slot_mapping)
    assert same_bytes(memory, expected_memory)


KEY, CACHE, SLOTS = torch.zeros(3, 2, 4), torch.zeros(5, 2, 2, 4), torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: write_kv(KEY.half(), KEY, CACHE, CACHE, SLOTS),
            TypeError,
            "key must have its cache's dtype torch.float32, got torch.float16",
        ),
        (
            lambda: write_kv(KEY, KEY, CACHE, CACHE, SLOTS.int()),
            TypeError,
            "slot_mapping must be int64, got torch.int32",
        ),
        (
            lambda: write_kv(KEY, KEY[:2], CACHE, CACHE, SLOTS),
            ValueError,
            "value must have shape (3, 2, 4), got (2, 2, 4)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()

"""Writing KV against one token after the other, in caches that are strided views; all memory is compared."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import write_kv, write_kv_reference
from tests.kernels.attention_batches import virtual_memory
from tests.kernels.backends import LAYOUTS, in_large_memory, make_pool, on_every_backend, random_bytes, same_bytes


def caches(pool, layer):
    """Views ``[num_blocks, block_size, heads, dim]`` of one layer's K and V."""
    kv = pool[layer] if isinstance(pool, tuple) else pool[:, layer]
    return kv[:, 0], kv[:, 1]


def make_tokens(order, shape, dtype, *, seed, device):
    """Random ``[num_tokens, heads, dim]``, of which memory has the order that is named."""
    permuted = {"tokens_first": (0, 1, 2), "heads_first": (1, 0, 2), "dims_first": (2, 0, 1)}[order]
    memory = random_bytes([shape[dim] for dim in permuted], dtype, seed=seed, device=device)
    return memory.permute(*np.argsort(permuted).tolist())


@on_every_backend
@given(
    data=st.data(),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn]),
    block_size=st.integers(1, 4),
    num_blocks=st.integers(1, 6),
    heads=st.integers(1, 3),
    dim=st.sampled_from([1, 3, 8, 20]),
    orders=st.tuples(*[st.sampled_from(["tokens_first", "heads_first", "dims_first"])] * 2),
)
@settings(deadline=None, max_examples=60)
def test_equals_reference(device, data, layout, dtype, block_size, num_blocks, heads, dim, orders):
    free = st.permutations(range(num_blocks * block_size))
    num_padded, num_written = data.draw(st.integers(0, 3)), data.draw(st.integers(0, num_blocks * block_size))
    slots = data.draw(st.permutations([-1] * num_padded + data.draw(free)[:num_written]))
    slot_mapping = torch.tensor(slots, dtype=torch.int64)
    key, value = (
        make_tokens(order, (len(slots), heads, dim), dtype, seed=seed, device=device)
        for seed, order in enumerate(orders)
    )
    shape = (2, 2, block_size, heads, dim)
    pool, memory = make_pool(layout, num_blocks, shape, dtype, seed=3, device=device)
    expected, expected_memory = make_pool(layout, num_blocks, shape, dtype, seed=3)
    where = data.draw(st.sampled_from(["cpu", device]))
    write_kv(key, value, *caches(pool, 1), slot_mapping.to(where))
    write_kv_reference(key.cpu(), value.cpu(), *caches(expected, 1), slot_mapping)
    assert same_bytes(memory, expected_memory)


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nan_payloads_survive(device, dtype):
    integers = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    signalling = torch.full((4, 2, 3), float("inf"), dtype=dtype).view(integers)
    signalling = (signalling + torch.arange(1, 25).view(4, 2, 3).to(integers)).to(device)
    assert signalling.view(dtype).isnan().all()
    k_cache, v_cache = (torch.zeros(3, 2, 2, 3, dtype=dtype, device=device) for _ in range(2))
    write_kv(*[signalling.view(dtype)] * 2, k_cache, v_cache, torch.tensor([5, -1, 0, 3]))
    for cache in (k_cache, v_cache):
        assert torch.equal(cache.view(integers).flatten(0, 1)[[5, 0, 3]], signalling[[0, 2, 3]])


@in_large_memory
@on_every_backend
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_a_cache_beyond_32_bits(device, dim):
    """Strides that take the last block, slot, head or element of a cache beyond 2 ** 31 elements."""
    shape, strides = (5, 4, 3, 8), [96, 24, 8, 1]
    strides[dim] = (1 << 31) // (shape[dim] - 1) + 1
    numel = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    caches = [virtual_memory(numel, torch.bfloat16, device).as_strided(shape, strides) for _ in range(2)]
    key, value = (random_bytes((3, 3, 8), torch.bfloat16, seed=seed, device=device) for seed in (1, 2))
    slots = [19, 3, 16]
    write_kv(key, value, *caches, torch.tensor(slots))
    for cache, tokens in zip(caches, (key, value), strict=True):
        for token, slot in enumerate(slots):
            assert same_bytes(cache[slot // 4, slot % 4], tokens[token])


@on_every_backend
def test_no_token(device):
    cache = torch.zeros(2, 2, 2, 4, device=device)
    write_kv(*[torch.zeros(0, 2, 4, device=device)] * 2, cache, cache.clone(), torch.zeros(0, dtype=torch.int64))
    assert not cache.any()


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
            lambda: write_kv(KEY, KEY, CACHE, CACHE.half(), SLOTS),
            TypeError,
            "value must have its cache's dtype torch.float16, got torch.float32",
        ),
        (
            lambda: write_kv(KEY, KEY.half(), CACHE, CACHE.half(), SLOTS),
            TypeError,
            "k_cache and v_cache must have one dtype and device, got torch.float32 on cpu and torch.float16 on cpu",
        ),
        (
            lambda: write_kv(KEY, KEY[:2], CACHE, CACHE, SLOTS),
            ValueError,
            "value must have shape (3, 2, 4), got (2, 2, 4)",
        ),
        (
            lambda: write_kv(KEY, KEY, CACHE, CACHE[:4], SLOTS),
            ValueError,
            "caches must be [num_blocks, block_size, num_kv_heads, head_dim] both, got (5, 2, 2, 4) and (4, 2, 2, 4)",
        ),
        (
            lambda: write_kv(KEY.to("meta"), KEY, CACHE, CACHE, SLOTS),
            ValueError,
            "key must be on its cache's device cpu, got meta",
        ),
        (
            lambda: write_kv(KEY, KEY, CACHE, CACHE, SLOTS.to("meta")),
            ValueError,
            "slot_mapping must be on the host or on cpu, got meta",
        ),
        (
            lambda: write_kv(KEY, KEY, CACHE, CACHE, torch.tensor([0, 10, 2])),
            IndexError,
            "slot_mapping must be in [-1, 10), got 10 at index 1",
        ),
        (
            lambda: write_kv(KEY, KEY, CACHE, CACHE, torch.tensor([0, 1, -2])),
            IndexError,
            "slot_mapping must be in [-1, 10), got -2 at index 2",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()

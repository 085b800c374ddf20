"""Ragged batches for attention: every slot that nobody wrote holds NaN, and what backends compute is compared here."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from fastswitch.kernels import AttentionPlan, write_kv
from tests.kernels.backends import INTERPRETED, gpu

NUM_BLOCKS = 40
NAN = float("nan")
# An ulp of the result, and what tf32 takes from the weights of 16-bit types on a GPU.
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
    torch.float32: {"rtol": 2e-5, "atol": 2e-6},
    torch.bfloat16: {"rtol": 8e-3, "atol": 2e-3},
    torch.float16: {"rtol": 2e-3, "atol": 1e-3},
}

on_every_kernel_backend = pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cpu",
            id="interpreter",
            marks=[pytest.mark.interpret, pytest.mark.skipif(not INTERPRETED, reason="TRITON_INTERPRET is not set")],
        ),
        pytest.param("cuda", id="cuda", marks=gpu),
    ],
)
# (query_len, seq_len) of a request, decodes as often as chunks
lengths = st.integers(1, 17).flatmap(lambda seq_len: st.tuples(st.just(1) | st.integers(1, seq_len), st.just(seq_len)))


@dataclass(frozen=True)
class Batch:
    """Queries on two caches that are views of a pool of the order given."""

    query: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: list
    query_lens: list
    seq_lens: list
    key: torch.Tensor
    value: torch.Tensor

    @property
    def tensors(self):
        return self.query, self.k_cache, self.v_cache

    def plan(self, **ranges):
        return AttentionPlan.build(
            self.block_tables,
            self.query_lens,
            self.seq_lens,
            block_size=self.k_cache.shape[1],
            device=self.query.device,
            **ranges,
        )


def make_batch(
    query_lens,
    seq_lens,
    *,
    block_size=4,
    kv_heads=2,
    group=3,
    dim=8,
    dtype=torch.float64,
    device="cpu",
    order="block_major",
):
    torch.manual_seed(0)
    free = torch.randperm(NUM_BLOCKS).numpy().astype(np.int32)
    ends = np.cumsum([-(-seq_len // block_size) for seq_len in seq_lens])
    block_tables = np.split(free[: ends[-1]], ends[:-1])
    shape = (NUM_BLOCKS, 2, 2, block_size, kv_heads, dim)
    if order == "block_major":
        pool = torch.full(shape, NAN, dtype=dtype, device=device)
    else:
        pool = torch.full((*shape[1:3], NUM_BLOCKS, *shape[3:]), NAN, dtype=dtype, device=device).permute(
            2, 0, 1, 3, 4, 5
        )
    k_cache, v_cache = pool[:, 1, 0], pool[:, 1, 1]
    everything = AttentionPlan.build(block_tables, seq_lens, seq_lens, block_size=block_size, device=device)
    key, value = (torch.randn(sum(seq_lens), kv_heads, dim).to(device, dtype) for _ in range(2))
    write_kv(key, value, k_cache, v_cache, everything.slot_mapping)
    # as transformers hands it over: heads first
    query = torch.randn(kv_heads * group, sum(query_lens), dim).to(device, dtype).transpose(0, 1)
    return Batch(query, k_cache, v_cache, list(block_tables), list(query_lens), list(seq_lens), key, value)


def fitting(requests, block_size):
    """As many of the (query_len, seq_len) as the blocks suffice for, as two lists."""
    num_blocks = np.cumsum([-(-seq_len // block_size) for _, seq_len in requests])
    kept = requests[: max(1, int((num_blocks <= NUM_BLOCKS).sum()))]
    return [list(column) for column in zip(*kept, strict=True)]


def virtual_memory(numel, dtype, device):
    """A tensor of that many elements of which only what is touched takes memory; on a GPU it is allocated."""
    if device == "cuda":
        return torch.empty(numel, dtype=dtype, device=device)
    no_reserve = 0x4000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    pages = mmap.mmap(-1, numel * dtype.itemsize, flags=flags)
    return torch.from_numpy(np.frombuffer(pages, dtype=np.uint8)).view(dtype)

"""How the attention kernel is launched: decodes and chunks a launch each, and a merge where keys are split."""

from __future__ import annotations

import functools
import math

import torch

from fastswitch.kernels._attention_kernel import attention_kernel
from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels._attention_tile import choose_splits, choose_tile
from fastswitch.kernels._kernel_index import KernelIndex, Strips
from fastswitch.kernels._triton import launching
from fastswitch.kernels.merge_attention import launch_merge

__all__ = ["MAX_HEAD_DIM", "attend_in_triton"]

MAX_HEAD_DIM = 256
LOG2_E = math.log2(math.e)


def attend_in_triton(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    index: KernelIndex,
    rules: AttentionRules,
    out: torch.Tensor,  # [num_tokens, num_heads, head_dim], contiguous
    lse: torch.Tensor | None,  # [num_tokens, num_heads], contiguous; if wanted
    *,
    num_splits: int | None = None,  # of the keys; None: chosen
) -> None:
    """Fill ``out``, and ``lse`` if it is given, for a checked batch."""
    for strips in (index.decodes, index.chunks):
        if len(strips.index):
            _attend_strips(query, k_cache, v_cache, index, strips, rules, out, lse, num_splits)


def _attend_strips(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    index: KernelIndex,
    strips: Strips,
    rules: AttentionRules,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    num_splits: int | None,
) -> None:
    num_heads, head_dim = query.shape[1:]
    num_kv_heads = k_cache.shape[2]
    group = num_heads // num_kv_heads
    dtype = max(query.dtype, k_cache.dtype, v_cache.dtype, key=lambda each: each.itemsize)
    tile = choose_tile(group, strips.rows, head_dim, dtype)
    head_tiles = num_kv_heads * -(-group // tile.heads)
    window, softcap = rules.sliding_window, rules.softcap
    visible = strips.max_keys if window is None else min(strips.max_keys, window + strips.rows * tile.strips - 1)
    if num_splits is None:
        num_splits = choose_splits(strips, tile, head_tiles, visible, _num_multiprocessors(query.device))
    parts_out, parts_lse = out, lse
    if num_splits > 1:
        shape = (num_splits, len(strips.index) * strips.rows, num_heads)
        parts_out = torch.empty((*shape, head_dim), dtype=torch.float32, device=query.device)
        parts_lse = torch.empty(shape, dtype=torch.float32, device=query.device)
    with launching(query.device):
        attention_kernel[len(strips.index), head_tiles, num_splits](
            query,
            k_cache,
            v_cache,
            strips.index,
            index.requests,
            index.block_ids,
            rules.sinks if num_splits == 1 else None,
            parts_out,
            parts_lse,
            rules.scale * LOG2_E if softcap is None else rules.scale / softcap,
            None if softcap is None else softcap * LOG2_E,
            window,
            max(1, -(-visible // (num_splits * tile.n))) * tile.n,
            group,
            num_kv_heads,
            *query.stride(),
            *k_cache.stride(),
            *v_cache.stride(),
            HEAD_DIM=head_dim,
            BLOCK_SIZE=k_cache.shape[1],
            STRIP_ROWS=strips.rows,
            STRIPS=tile.strips,
            HEADS=tile.heads,
            M=tile.m,
            N=tile.n,
            DIM=tile.dim,
            PRECISION="ieee" if dtype == torch.float32 else "tf32",
            IN_STRIPS=num_splits > 1,
            **tile.options,
        )
    if num_splits > 1 and parts_lse is not None:
        launch_merge(parts_out, parts_lse, rules.sinks, out, lse, strips=(strips, index.requests))


@functools.lru_cache
def _num_multiprocessors(device: torch.device) -> int:
    """How many programs the device runs side by side, at the least; 1 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1

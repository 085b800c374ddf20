"""How the attention kernel is launched: decodes and chunks a launch each, and a merge where keys are split."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch

from fastswitch.kernels._attention_kernel import attention_kernel
from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels._attention_tile import Tile, choose_splits, choose_tile
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
    group = num_heads // k_cache.shape[2]
    tile = choose_tile(group, strips.rows, head_dim, _widest(query, k_cache, v_cache))
    head_tiles, visible = k_cache.shape[2] * -(-group // tile.heads), strips.max_keys
    if rules.sliding_window is not None:
        visible = min(visible, rules.sliding_window + strips.rows * tile.strips - 1)
    parts_shape = (len(strips.index) * strips.rows, num_heads, head_dim)
    if num_splits is None:
        num_sms = _num_multiprocessors(query.device)
        num_splits = choose_splits(strips, tile, head_tiles, visible, math.prod(parts_shape), num_sms)
    split_keys = max(1, -(-visible // (num_splits * tile.n))) * tile.n
    grid = (len(strips.index), head_tiles, num_splits)
    if num_splits == 1:
        _launch(grid, query, k_cache, v_cache, index, strips, rules, tile, split_keys, out, lse)
        return
    parts = torch.empty((num_splits, *parts_shape), dtype=torch.float32, device=query.device)
    lses = torch.empty(parts.shape[:-1], dtype=torch.float32, device=query.device)
    without_sinks = dataclasses.replace(rules, sinks=None)
    _launch(grid, query, k_cache, v_cache, index, strips, without_sinks, tile, split_keys, parts, lses)
    launch_merge(parts, lses, rules.sinks, out, lse, strips=(strips, index.requests))


def _launch(
    grid: tuple[int, int, int],
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    index: KernelIndex,
    strips: Strips,
    rules: AttentionRules,
    tile: Tile,
    split_keys: int,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    softcap = rules.softcap
    with launching(query.device):
        attention_kernel[grid](
            query,
            k_cache,
            v_cache,
            strips.index,
            index.requests,
            index.block_ids,
            rules.sinks,
            out,
            lse,
            rules.scale * LOG2_E if softcap is None else rules.scale / softcap,
            None if softcap is None else softcap * LOG2_E,
            rules.sliding_window,
            split_keys,
            query.shape[1] // k_cache.shape[2],
            k_cache.shape[2],
            *query.stride(),
            *k_cache.stride(),
            *v_cache.stride(),
            HEAD_DIM=query.shape[2],
            BLOCK_SIZE=k_cache.shape[1],
            STRIP_ROWS=strips.rows,
            STRIPS=tile.strips,
            HEADS=tile.heads,
            M=tile.m,
            N=tile.n,
            DIM=tile.dim,
            PRECISION="ieee" if _widest(query, k_cache, v_cache) == torch.float32 else "tf32",
            IN_STRIPS=grid[2] > 1,
            **tile.options,
        )


def _widest(*tensors: torch.Tensor) -> torch.dtype:
    return max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.itemsize)


@functools.lru_cache
def _num_multiprocessors(device: torch.device) -> int:
    """How many programs the device runs side by side, at the least; 1 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1

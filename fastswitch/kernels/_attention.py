"""The way that a checked batch takes: the Triton kernel where there is one, else torch."""

from __future__ import annotations

import torch

from fastswitch.kernels._attention_launch import MAX_HEAD_DIM, attend_in_triton
from fastswitch.kernels._attention_rules import AttentionRules, check_attention
from fastswitch.kernels._attention_torch import attend_in_torch
from fastswitch.kernels._triton import takes_kernel
from fastswitch.kernels.attention_plan import AttentionPlan

__all__ = ["attend"]

KERNEL_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})


def attend(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    plan: AttentionPlan,
    rules: AttentionRules,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    """Fill ``out``, and ``lse`` if it is given, as `paged_attention` and `partial_attention` say."""
    check_attention(query, k_cache, v_cache, plan, rules)
    if query.numel() == 0:
        return
    if not takes_kernel(query.device) or not {query.dtype, k_cache.dtype, v_cache.dtype} <= KERNEL_DTYPES:
        attend_in_torch(query, k_cache, v_cache, plan.torch_batch, rules, out, lse)
        return
    if query.shape[2] > MAX_HEAD_DIM:
        raise ValueError(
            f"head_dim must be at most {MAX_HEAD_DIM} in the Triton kernel, got {query.shape[2]}: "
            "attend on the CPU or in float64"
        )
    attend_in_triton(query, k_cache, v_cache, plan.index, rules, out, lse)

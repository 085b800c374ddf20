"""What turns scores into weights, and the checks that attention makes before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastswitch.kernels.attention_plan import AttentionPlan

__all__ = ["AttentionRules", "check_attention"]


@dataclass(frozen=True, slots=True)
class AttentionRules:
    """The keyword arguments of `paged_attention`."""

    scale: float
    sliding_window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


def check_attention(
    query: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, plan: AttentionPlan, rules: AttentionRules
) -> None:
    """Check shapes, devices and rules against each other; reads no tensor.

    Raises:
        ValueError: as `paged_attention` says.
    """
    if query.dim() != 3 or k_cache.dim() != 4:
        shapes = f"{list(query.shape)} and {list(k_cache.shape)}"
        raise ValueError(
            "query must be [num_tokens, num_heads, head_dim] and caches "
            f"[num_blocks, block_size, num_kv_heads, head_dim], got {shapes}"
        )
    if query.shape[0] != plan.num_tokens:
        raise ValueError(f"query must have the plan's {plan.num_tokens} rows, got {query.shape[0]}")
    if query.shape[1] % k_cache.shape[2]:
        raise ValueError(f"heads must be a multiple of the {k_cache.shape[2]} KV heads, got {query.shape[1]}")
    if k_cache.shape[1] != plan.block_size:
        raise ValueError(f"cache must have the plan's block size {plan.block_size}, got {k_cache.shape[1]}")
    if k_cache.shape != v_cache.shape or query.shape[2] != k_cache.shape[3]:
        sizes = f"{list(k_cache.shape)}, {list(v_cache.shape)} and head_dim {query.shape[2]}"
        raise ValueError(f"k_cache and v_cache must have one shape, and the query's head_dim, got {sizes}")
    if not query.device == k_cache.device == v_cache.device == plan.slot_mapping.device:
        devices = {each.device for each in (query, k_cache, v_cache, plan.slot_mapping)}
        raise ValueError(f"query, caches and plan must be on one device, got {sorted(map(str, devices))}")
    _check_rules(rules, query)


def _check_rules(rules: AttentionRules, query: torch.Tensor) -> None:
    if rules.sliding_window is not None and rules.sliding_window < 1:
        raise ValueError(f"sliding_window must be at least 1, got {rules.sliding_window}")
    if rules.softcap is not None and rules.softcap <= 0:
        raise ValueError(f"softcap must be positive, got {rules.softcap}")
    sinks = rules.sinks
    if sinks is not None and (tuple(sinks.shape) != query.shape[1:2] or sinks.device != query.device):
        found = f"{tuple(sinks.shape)} on {sinks.device}"
        raise ValueError(f"sinks must be one logit a head, ({query.shape[1]},) on {query.device}, got {found}")

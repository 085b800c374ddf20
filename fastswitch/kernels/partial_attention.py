"""Attention of a ragged batch over a part of each request's keys, with what is needed to merge parts.

A request may read several segments of KV: a prefix that it shares, its own tokens, another worker's. Each segment is
attended by a plan of its own (`AttentionPlan.build` with ``key_starts`` and ``num_keys``), and `merge_attention` makes
one attention of the parts.

Ours:  as `paged_attention`, of which this is the part before sinks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum

from fastswitch.kernels._attention import attend
from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels.attention_plan import AttentionPlan

__all__ = ["partial_attention", "partial_attention_reference"]


def partial_attention_reference(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: Sequence[Sequence[int]],
    query_lens: Sequence[int],
    seq_lens: Sequence[int],
    *,
    scale: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    key_starts: Sequence[int] | None = None,
    num_keys: Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The specification of `partial_attention`: one token and head after the other, reading only visible slots."""
    block_size, group = k_cache.shape[1], query.shape[1] // k_cache.shape[2]
    dtype = torch.promote_types(query.dtype, torch.float32)
    starts = [0] * len(seq_lens) if key_starts is None else key_starts
    stops = seq_lens if num_keys is None else [start + keys for start, keys in zip(starts, num_keys, strict=True)]
    rows = [
        (table, seq_len - query_len + i, start, stop)
        for table, query_len, seq_len, start, stop in zip(
            block_tables, query_lens, seq_lens, starts, stops, strict=True
        )
        for i in range(query_len)
    ]
    out = torch.zeros(query.shape, dtype=dtype, device=query.device)
    lse = torch.full(query.shape[:2], float("-inf"), dtype=dtype, device=query.device)
    for token, (table, position, start, stop) in enumerate(rows):
        first = start if sliding_window is None else max(start, position - sliding_window + 1)
        keys_seen = [p - start for p in range(first, min(position + 1, stop))]
        visible = [(table[key // block_size], key % block_size) for key in keys_seen]
        for head in range(query.shape[1] if visible else 0):
            keys = torch.stack([k_cache[block_id, offset, head // group] for block_id, offset in visible]).to(dtype)
            values = torch.stack([v_cache[block_id, offset, head // group] for block_id, offset in visible]).to(dtype)
            scores = einsum(keys, query[token, head].to(dtype), "slot dim, dim -> slot") * scale
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            lse[token, head] = torch.logsumexp(scores, dim=0)
            out[token, head] = einsum(torch.softmax(scores, dim=0), values, "slot, slot dim -> dim")
    return out, lse


@torch.no_grad()
def partial_attention(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend every query row to the keys in its request's table, up to its own position.

    Enqueued on the current stream; no gradient is kept.

    Args:
        query: ``[num_tokens, num_heads, head_dim]``, any strides, on the plan's device.
        k_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, any strides; block ids are not checked.
        v_cache: as ``k_cache``.
        plan: the batch, with the range of keys of each request.
        scale: factor of the scores, applied first.
        sliding_window: as `paged_attention`; it counts positions, not keys of the table.
        softcap: as `paged_attention`.

    Returns:
        The attention ``[num_tokens, num_heads, head_dim]`` and the natural log-sum-exps of the scores ``[num_tokens,
        num_heads]``, both float32, or float64 for a float64 query. A row that sees no key has 0 and -inf.

    Raises:
        ValueError: as `paged_attention`.
    """
    rules = AttentionRules(scale, sliding_window, softcap, sinks=None)
    dtype = torch.promote_types(query.dtype, torch.float32)
    out = torch.empty(query.shape, dtype=dtype, device=query.device)
    lse = torch.full(query.shape[:2], float("-inf"), dtype=dtype, device=query.device)
    attend(query, k_cache, v_cache, plan, rules, out, lse)
    return out, lse

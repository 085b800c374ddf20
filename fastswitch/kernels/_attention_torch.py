"""Attention over paged KV in torch: the path of the CPU, and of dtypes that the Triton kernel does not take.

Ours:  decodes in one padded batch, so that a layer does no Python work a request but for prefills; K and V gathered by
whole blocks, then one matrix product a KV head, which expands nothing for GQA.
Invariants:
1. Slots that no row sees have no influence, whatever they hold: scores there are replaced, values zeroed.
2. Arithmetic is in the wider of float32 and the query's dtype.
3. Given a plan, nothing waits for a device.
"""

from __future__ import annotations

import torch
from einops import rearrange

from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels._torch_batch import DecodeBatch, PrefillChunk, TorchBatch

__all__ = ["PIECE_ROWS", "attend_in_torch"]

# Query rows of a prefill that are computed at once: it bounds the scores to rows * group size * seq_len a KV head. A
# prompt of 500 tokens (float64, 8 heads of 32, one core) took 7.4, 6.9, 7.5, 8.4 and 11.8 ms with 32, 64, 128, 256 and
# 512 rows: more keys are skipped, and scores stay in the cache. Not measured on a GPU.
PIECE_ROWS = 64


def attend_in_torch(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: TorchBatch,
    rules: AttentionRules,
    out: torch.Tensor,  # [num_tokens, num_heads, head_dim]
    lse: torch.Tensor | None,  # [num_tokens, num_heads]; the log-sum-exp of each row's scores, if wanted
) -> None:
    """Fill ``out``, and ``lse`` if it is given, for a checked batch."""
    if batch.decodes is not None:
        _attend_decodes(query, k_cache, v_cache, batch, batch.decodes, rules, out, lse)
    for chunk in batch.chunks:
        _attend_chunk(query, k_cache, v_cache, batch, chunk, rules, out, lse)


def _attend_decodes(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: TorchBatch,
    decodes: DecodeBatch,
    rules: AttentionRules,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    key, value = (_gather(cache, decodes.block_ids, query.dtype) for cache in (k_cache, v_cache))
    keys = torch.arange(key.shape[1], device=query.device)
    hidden = keys > decodes.last_keys[:, None]
    if rules.sliding_window is not None:
        hidden |= keys <= decodes.positions[:, None] - rules.sliding_window
        value.masked_fill_(hidden[:, :, None, None], 0)
    # A weight of 0 does not silence a NaN. What is past the end is known from the plan, and far less to write than all.
    value.flatten(0, 1).index_fill_(0, decodes.padding, 0)
    found, found_lse = _attend(query[decodes.rows, None], key, value, hidden[:, None], rules, batch, lse is not None)
    out[decodes.rows] = found[:, 0].to(out.dtype)
    if lse is not None and found_lse is not None:
        lse[decodes.rows] = found_lse[:, 0]


def _attend_chunk(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: TorchBatch,
    chunk: PrefillChunk,
    rules: AttentionRules,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    key, value = (_gather(cache, chunk.block_ids[None], query.dtype) for cache in (k_cache, v_cache))
    for start in range(0, chunk.query_len, PIECE_ROWS):
        num_rows = min(PIECE_ROWS, chunk.query_len - start)
        rows = slice(chunk.first_row + start, chunk.first_row + start + num_rows)
        first = chunk.position + start
        seen_from = 0 if rules.sliding_window is None else max(0, first - rules.sliding_window + 1)
        seen = slice(seen_from, max(seen_from, min(first + num_rows, chunk.num_keys)))
        keys = torch.arange(seen.start, seen.stop, device=query.device)
        positions = torch.arange(first, first + num_rows, device=query.device)[:, None]
        hidden = keys > positions
        if rules.sliding_window is not None:
            hidden |= keys <= positions - rules.sliding_window
        found, found_lse = _attend(
            query[None, rows], key[:, seen], value[:, seen], hidden[None], rules, batch, lse is not None
        )
        out[rows] = found[0].to(out.dtype)
        if lse is not None and found_lse is not None:
            lse[rows] = found_lse[0]


def _gather(cache: torch.Tensor, block_ids: torch.Tensor, query_dtype: torch.dtype) -> torch.Tensor:
    """A copy of the blocks, as ``[batch, slot, num_kv_heads, head_dim]`` in the dtype to compute in."""
    blocks = cache.index_select(0, block_ids.flatten())
    slots = blocks.view(block_ids.shape[0], block_ids.shape[1] * cache.shape[1], *cache.shape[2:])
    return slots.to(torch.promote_types(query_dtype, torch.float32))


def _attend(
    query: torch.Tensor,  # [batch, row, num_heads, head_dim]
    key: torch.Tensor,  # [batch, slot, num_kv_heads, head_dim]
    value: torch.Tensor,  # as key
    hidden: torch.Tensor,  # [batch, row, slot] bool
    rules: AttentionRules,
    batch: TorchBatch,
    wants_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``[batch, row, num_heads, head_dim]``, and ``[batch, row, num_heads]`` if that is wanted."""
    num_rows, num_kv_heads = query.shape[1], key.shape[2]
    group = query.shape[2] // num_kv_heads
    rows = rearrange(query.to(key.dtype), "batch row (kv group) dim -> kv batch (row group) dim", kv=num_kv_heads)
    out = torch.empty(rows.shape, dtype=key.dtype, device=key.device)
    lse = torch.empty(rows.shape[:-1], dtype=key.dtype, device=key.device) if wants_lse else None
    for head in range(num_kv_heads):  # a product over all heads at once would first copy K and V into another order
        scores = torch.bmm(rows[head], key[:, :, head].transpose(1, 2)).mul_(rules.scale)
        scores = _limit(scores.view(len(query), num_rows, group, scores.shape[-1]), hidden, rules)
        if lse is not None:
            lse[head] = torch.logsumexp(scores, dim=-1).flatten(1)
        weights = _weights(
            scores, rules.sinks if rules.sinks is None else rules.sinks[head * group : (head + 1) * group]
        )
        if not batch.rows_see_themselves:
            weights = weights.masked_fill_(hidden.all(-1)[:, :, None, None], 0)
        torch.bmm(weights.flatten(1, 2), value[:, :, head], out=out[head])
    by_row = rearrange(out, "kv batch (row group) dim -> batch row (kv group) dim", row=num_rows)
    if lse is None:
        return by_row, None
    return by_row, rearrange(lse, "kv batch (row group) -> batch row (kv group)", row=num_rows)


def _limit(scores: torch.Tensor, hidden: torch.Tensor, rules: AttentionRules) -> torch.Tensor:
    """The ``[batch, row, group, slot]`` scores capped, and -inf where hidden; overwrites them."""
    if rules.softcap is not None:
        scores = scores.div_(rules.softcap).tanh_().mul_(rules.softcap)
    return scores.masked_fill_(hidden[:, :, None], float("-inf"))


def _weights(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    """Softmax of ``[batch, row, group, slot]`` scores, with the sinks' terms in the denominators."""
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    terms = sinks.to(scores.dtype)[:, None].expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, terms], dim=-1), dim=-1)[..., :-1]

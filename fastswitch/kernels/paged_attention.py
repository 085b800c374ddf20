"""Causal attention of a ragged batch over paged KV: prefill chunks on top of a prefix, and decodes, in one call.

Layouts: query and output ``[num_tokens, num_heads, head_dim]``, the requests one after the other in the plan's order; a
cache is a strided view ``[num_blocks, block_size, num_kv_heads, head_dim]``. A request with ``query_len`` rows and
``seq_len`` tokens of KV, the new ones included, has its row i at position ``seq_len - query_len + i``.

Paper: none of this; the operation is vLLM's paged attention (arXiv 2309.06180).
Ours:  an `AttentionPlan` built once a step, so that a layer does no Python work a request but for prefills; decodes in
one padded batch; K and V gathered by whole blocks, then one matrix product a KV head, which expands nothing for GQA.
Invariants:
1. Slots past a request's ``seq_len`` have no influence, whatever they hold: scores there are replaced, values zeroed.
2. Arithmetic is in the wider of float32 and the query's dtype; the result has the query's dtype.
3. Given a plan, nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange

from fastswitch.kernels.attention_plan import AttentionPlan, DecodeBatch, PrefillChunk

__all__ = ["AttentionPlan", "paged_attention", "paged_attention_reference"]

# Query rows of a prefill that are computed at once: it bounds the scores to rows * group size * seq_len a KV head. A
# prompt of 500 tokens (float64, 8 heads of 32, one core) took 7.4, 6.9, 7.5, 8.4 and 11.8 ms with 32, 64, 128, 256 and
# 512 rows: more keys are skipped, and scores stay in the cache. Not measured on a GPU.
PIECE_ROWS = 64


def paged_attention_reference(
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
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """The specification of `paged_attention`: one token and head after the other, reading only visible slots."""
    block_size, group = k_cache.shape[1], query.shape[1] // k_cache.shape[2]
    dtype = torch.promote_types(query.dtype, torch.float32)
    rows = [
        (table, seq_len - query_len + i)
        for table, query_len, seq_len in zip(block_tables, query_lens, seq_lens, strict=True)
        for i in range(query_len)
    ]
    out = torch.empty_like(query)
    for token, (table, position) in enumerate(rows):
        first = 0 if sliding_window is None else max(0, position - sliding_window + 1)
        visible = [(table[p // block_size], p % block_size) for p in range(first, position + 1)]
        for head in range(query.shape[1]):
            keys = torch.stack([k_cache[block_id, offset, head // group] for block_id, offset in visible]).to(dtype)
            values = torch.stack([v_cache[block_id, offset, head // group] for block_id, offset in visible]).to(dtype)
            scores = einsum(keys, query[token, head].to(dtype), "slot dim, dim -> slot") * scale
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            logits = scores if sinks is None else torch.cat([scores, sinks[head : head + 1].to(dtype)])
            weights = torch.softmax(logits, dim=0)[: len(visible)]
            out[token, head] = einsum(weights, values, "slot, slot dim -> dim").to(query.dtype)
    return out


@torch.no_grad()
def paged_attention(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend every query row to the KV of its request up to its own position.

    The step's keys and values must be in the cache already (`write_kv`). Enqueued on the current stream; no gradient
    is kept.

    Args:
        query: ``[num_tokens, num_heads, head_dim]``, on the plan's device; ``num_heads`` a multiple of the KV heads.
        k_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, any strides; block ids are not checked.
        v_cache: as ``k_cache``.
        plan: the batch.
        scale: factor of the scores, applied first.
        sliding_window: a row at position p sees keys in ``(p - sliding_window, p]``; None: all up to p.
        softcap: scores become ``softcap * tanh(scores / softcap)``, as in Gemma 2; None: they stay.
        sinks: ``[num_heads]`` logits, each one more term of its head's softmax denominator, as in gpt-oss; or None.

    Returns:
        ``[num_tokens, num_heads, head_dim]`` in the query's dtype, contiguous.

    Raises:
        ValueError: if the query's rows, the heads or the block size do not match the plan and the caches.
    """
    _check(query, k_cache, plan)
    rules = _Rules(scale, sliding_window, softcap, sinks)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if plan.decodes is not None:
        _attend_decodes(query, k_cache, v_cache, plan.decodes, rules, out)
    for chunk in plan.chunks:
        _attend_chunk(query, k_cache, v_cache, chunk, rules, out)
    return out


@dataclass(frozen=True, slots=True)
class _Rules:
    """What turns scores into weights: the keyword arguments of `paged_attention`."""

    scale: float
    sliding_window: int | None
    softcap: float | None
    sinks: torch.Tensor | None

    def hides(self, key_position: torch.Tensor, query_position: torch.Tensor) -> torch.Tensor:
        """Whether a query row may not see a key; positions broadcast."""
        hidden = key_position > query_position
        if self.sliding_window is None:
            return hidden
        return hidden | (key_position <= query_position - self.sliding_window)

    def weights(self, scores: torch.Tensor, hidden: torch.Tensor, heads: slice) -> torch.Tensor:
        """Softmax of ``[batch, row, group, slot]`` scores of the query heads ``heads``; overwrites the scores."""
        if self.softcap is not None:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        scores = scores.masked_fill_(hidden[:, :, None], float("-inf"))
        if self.sinks is None:
            return torch.softmax(scores, dim=-1)
        sinks = self.sinks[heads].to(scores.dtype)[:, None].expand(*scores.shape[:3], 1)
        return torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]


def _attend_decodes(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    decodes: DecodeBatch,
    rules: _Rules,
    out: torch.Tensor,
) -> None:
    key, value = (_gather(cache, decodes.block_ids, query.dtype) for cache in (k_cache, v_cache))
    positions = torch.arange(key.shape[1], device=query.device)
    hidden = rules.hides(positions, decodes.positions[:, None])
    # A weight of 0 does not silence a NaN. What is past the end is known from the plan, and far less to write than all.
    value.flatten(0, 1).index_fill_(0, decodes.padding, 0)
    if rules.sliding_window is not None:
        value.masked_fill_(hidden[:, :, None, None], 0)
    out[decodes.rows] = _attend(query[decodes.rows, None], key, value, hidden[:, None], rules)[:, 0].to(query.dtype)


def _attend_chunk(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    chunk: PrefillChunk,
    rules: _Rules,
    out: torch.Tensor,
) -> None:
    key, value = (_gather(cache, chunk.block_ids[None], query.dtype) for cache in (k_cache, v_cache))
    for start in range(0, chunk.query_len, PIECE_ROWS):
        rows = slice(chunk.first_row + start, chunk.first_row + min(start + PIECE_ROWS, chunk.query_len))
        first = chunk.seq_len - chunk.query_len + start
        last = first + rows.stop - rows.start - 1
        seen = slice(0 if rules.sliding_window is None else max(0, first - rules.sliding_window + 1), last + 1)
        positions = torch.arange(seen.start, seen.stop, device=query.device)
        hidden = rules.hides(positions, positions[first - seen.start :, None])
        out[rows] = _attend(query[None, rows], key[:, seen], value[:, seen], hidden[None], rules)[0].to(query.dtype)


def _gather(cache: torch.Tensor, block_ids: torch.Tensor, query_dtype: torch.dtype) -> torch.Tensor:
    """A copy of the blocks, as ``[batch, slot, num_kv_heads, head_dim]`` in the dtype to compute in."""
    blocks = cache.index_select(0, block_ids.flatten())
    slots = blocks.view(block_ids.shape[0], -1, *cache.shape[2:])
    return slots.to(torch.promote_types(query_dtype, torch.float32))


def _attend(
    query: torch.Tensor,  # [batch, row, num_heads, head_dim]
    key: torch.Tensor,  # [batch, slot, num_kv_heads, head_dim]
    value: torch.Tensor,  # as key
    hidden: torch.Tensor,  # [batch, row, slot] bool
    rules: _Rules,
) -> torch.Tensor:
    num_rows, num_kv_heads = query.shape[1], key.shape[2]
    group = query.shape[2] // num_kv_heads
    rows = rearrange(query.to(key.dtype), "batch row (kv group) dim -> kv batch (row group) dim", kv=num_kv_heads)
    out = torch.empty(rows.shape, dtype=key.dtype, device=key.device)
    for head in range(num_kv_heads):  # a product over all heads at once would first copy K and V into another order
        scores = torch.bmm(rows[head], key[:, :, head].transpose(1, 2)).mul_(rules.scale)
        heads = slice(head * group, (head + 1) * group)
        weights = rules.weights(scores.view(len(query), num_rows, group, -1), hidden, heads)
        torch.bmm(weights.flatten(1, 2), value[:, :, head], out=out[head])
    by_row: torch.Tensor = rearrange(out, "kv batch (row group) dim -> batch row (kv group) dim", row=num_rows)
    return by_row


def _check(query: torch.Tensor, k_cache: torch.Tensor, plan: AttentionPlan) -> None:
    if query.shape[0] != plan.num_tokens:
        raise ValueError(f"query must have the plan's {plan.num_tokens} rows, got {query.shape[0]}")
    if query.shape[1] % k_cache.shape[2]:
        raise ValueError(f"heads must be a multiple of the {k_cache.shape[2]} KV heads, got {query.shape[1]}")
    if k_cache.shape[1] != plan.block_size:
        raise ValueError(f"cache must have the plan's block size {plan.block_size}, got {k_cache.shape[1]}")

"""Causal attention of a ragged batch over paged KV: prefill chunks on top of a prefix, and decodes, in one call.

Layouts: query and output ``[num_tokens, num_heads, head_dim]``, the requests one after the other in the plan's order; a
cache is a strided view ``[num_blocks, block_size, num_kv_heads, head_dim]``. A request with ``query_len`` rows and
``seq_len`` tokens of KV, the new ones included, has its row i at position ``seq_len - query_len + i``.

Paper: none of this; the operation is vLLM's paged attention (arXiv 2309.06180), split over keys as in FlashDecoding.
Ours:  an `AttentionPlan` built once a step, so that a layer does no Python work a request; one kernel for decodes and
chunks.
Backends: CUDA tensors of float16, bfloat16 or float32 run the Triton kernel; float64, the CPU, and a machine without
Triton take torch. With ``TRITON_INTERPRET=1`` set before the import the CPU runs the kernel, for tests.
Invariants:
1. Slots that no row sees have no influence, whatever they hold.
2. Arithmetic is in the wider of float32 and the query's dtype; the result has the query's dtype.
3. Given a plan, nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastswitch.kernels._attention import attend
from fastswitch.kernels._attention_rules import AttentionRules
from fastswitch.kernels.attention_plan import AttentionPlan
from fastswitch.kernels.merge_attention import merge_attention_reference
from fastswitch.kernels.partial_attention import partial_attention_reference

__all__ = ["paged_attention", "paged_attention_reference"]


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
    """The specification of `paged_attention`: the one part that holds all keys, then the sinks."""
    batch = (query, k_cache, v_cache, block_tables, query_lens, seq_lens)
    out, lse = partial_attention_reference(*batch, scale=scale, sliding_window=sliding_window, softcap=softcap)
    return merge_attention_reference(out[None], lse[None], sinks).to(query.dtype)


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
        query: ``[num_tokens, num_heads, head_dim]``, any strides, on the plan's device; ``num_heads`` a multiple of the
            KV heads.
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
        ValueError: if rows, heads, shapes, block size or devices do not match, a rule is out of range, or head_dim is
            above 256 where the Triton kernel serves.
    """
    rules = AttentionRules(scale, sliding_window, softcap, sinks)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    attend(query, k_cache, v_cache, plan, rules, out, lse=None)
    return out

"""Merge attention over parts of the keys into attention over all of them, by their log-sum-exps.

A part is what `partial_attention` gives: for each row and head the attention over some of its keys, normalised, and the
log of the sum of the exponentials of its scores. Parts must share no key. A part without keys has lse -inf, and its
output is not read.

Paper: the rule is FlashDecoding's and cascade inference's: a softmax over the parts' log-sum-exps weighs the parts.
Ours:  attention sinks, which are terms of the denominator alone, enter here, once, and not in the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum

from fastswitch.kernels._attention_kernel import rounded, shift_of
from fastswitch.kernels._kernel_index import Strips
from fastswitch.kernels._triton import launching, takes_kernel

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["launch_merge", "merge_attention", "merge_attention_reference"]

MAX_PARTS = 16  # loaded at once: 16 * 256 floats are 128 registers of a warp's lanes


def merge_attention_reference(
    outs: torch.Tensor, lses: torch.Tensor, sinks: torch.Tensor | None = None
) -> torch.Tensor:
    """The specification of `merge_attention`: a softmax over the parts' log-sum-exps, and the sink if there is one."""
    terms = lses if sinks is None else torch.cat([lses, sinks.to(lses.dtype).expand(1, *lses.shape[1:])])
    weights = torch.softmax(terms, dim=0)[: len(lses)]
    empty = lses == float("-inf")
    parts = outs.masked_fill(empty[..., None], 0)
    merged: torch.Tensor = einsum(
        weights.masked_fill(empty, 0), parts, "part row head, part row head dim -> row head dim"
    )
    return merged


if triton is not None:
    # Not specialised: another number of parts must not compile the kernel again.
    @triton.jit(do_not_specialize=["num_parts"])
    def _merge_kernel(
        outs_ptr: tl.tensor,  # [num_parts, num_rows, num_heads, HEAD_DIM]
        lses_ptr: tl.tensor,  # [num_parts, num_rows, num_heads]
        sinks_ptr: tl.tensor | None,  # [num_heads]; or None
        strips_ptr: tl.tensor
        | None,  # [num_strips, 2] int32, of `Strips`; None: row i of the parts is row i of the output
        requests_ptr: tl.tensor | None,  # [num_requests, 5] int32, of `KernelIndex`; or None
        out_ptr: tl.tensor,  # [num_tokens, num_heads, HEAD_DIM]
        lse_ptr: tl.tensor | None,  # [num_tokens, num_heads]; or None
        num_parts: tl.tensor,
        STRIP_ROWS: tl.constexpr,
        HEAD_DIM: tl.constexpr,
        DIM: tl.constexpr,  # HEAD_DIM, padded
        PARTS: tl.constexpr,  # parts that are loaded at once
    ) -> None:
        # grid: (num_rows, num_heads); a program merges one row of one head
        row, head = tl.program_id(0), tl.program_id(1)
        num_rows, num_heads = tl.num_programs(0), tl.num_programs(1)
        target = row
        if strips_ptr is not None:
            strip_ptr = strips_ptr + row // STRIP_ROWS * 2
            request_ptr = requests_ptr + tl.load(strip_ptr) * 5
            row_in_request = tl.load(strip_ptr + 1) + row % STRIP_ROWS
            if row_in_request >= tl.load(request_ptr + 1):
                return  # a strip is longer than what is left of its request
            target = tl.load(request_ptr) + row_in_request
        dim = tl.arange(0, DIM)
        top = float("-inf")
        total = 0.0
        acc = tl.zeros([DIM], tl.float32)
        for first in range(0, num_parts, PARTS):
            part = first + tl.arange(0, PARTS)
            index = (part.to(tl.int64) * num_rows + row) * num_heads + head
            lse = tl.load(lses_ptr + index, mask=part < num_parts, other=float("-inf"))
            mask = (lse > float("-inf"))[:, None] & (dim[None, :] < HEAD_DIM)
            out = tl.load(outs_ptr + index[:, None] * HEAD_DIM + dim[None, :], mask=mask, other=0.0)
            new_top = tl.maximum(top, tl.max(lse, 0))
            shift = shift_of(new_top)
            weights = tl.exp(lse - shift)
            decay = tl.exp(top - shift)
            total = total * decay + tl.sum(weights, 0)
            acc = acc * decay + tl.sum(weights[:, None] * out, 0)
            top = new_top
        index = target.to(tl.int64) * num_heads + head
        if lse_ptr is not None:
            lse = tl.where(total != 0, top + tl.log(tl.where(total != 0, total, 1.0)), float("-inf"))
            tl.store(lse_ptr + index, lse)
        if sinks_ptr is not None:
            sink = tl.load(sinks_ptr + head).to(tl.float32)
            shift = shift_of(tl.maximum(top, sink))
            decay = tl.exp(top - shift)
            acc *= decay
            total = total * decay + tl.exp(sink - shift)
        out = rounded(acc / tl.where(total == 0.0, 1.0, total), out_ptr.dtype.element_ty)
        tl.store(out_ptr + index * HEAD_DIM + dim, out, mask=dim < HEAD_DIM)


@torch.no_grad()
def merge_attention(
    outs: torch.Tensor | Sequence[torch.Tensor],
    lses: torch.Tensor | Sequence[torch.Tensor],
    sinks: torch.Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Attention over the keys of all parts together.

    Enqueued on the current stream; no gradient is kept. Sequences of tensors are stacked first, which copies them.

    Args:
        outs: ``[num_parts, num_tokens, num_heads, head_dim]`` float32 or float64, at least one part. Where a part's lse
            is -inf it is not read.
        lses: ``[num_parts, num_tokens, num_heads]`` of the same dtype, natural logarithms.
        sinks: ``[num_heads]`` logits, each one more term of its head's softmax denominator; or None.
        dtype: of the result; None: as ``outs``.

    Returns:
        ``[num_tokens, num_heads, head_dim]``; 0 where no part has a key.

    Raises:
        ValueError: if shapes or devices do not match, or there is no part.
        TypeError: if the parts are neither float32 nor float64, or of two dtypes.
    """
    outs = outs if isinstance(outs, torch.Tensor) else torch.stack(tuple(outs))
    lses = lses if isinstance(lses, torch.Tensor) else torch.stack(tuple(lses))
    _check(outs, lses, sinks)
    if not takes_kernel(outs.device) or outs.dtype == torch.float64:
        return merge_attention_reference(outs, lses, sinks).to(dtype or outs.dtype)
    out = torch.empty(outs.shape[1:], dtype=dtype or outs.dtype, device=outs.device)
    if out.numel():
        launch_merge(outs.contiguous(), lses.contiguous(), sinks, out, lse=None, strips=None)
    return out


def launch_merge(
    outs: torch.Tensor,
    lses: torch.Tensor,
    sinks: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    strips: tuple[Strips, torch.Tensor] | None,
) -> None:
    """Merge contiguous float32 parts, unchecked, into ``out``, and their lses into ``lse`` if it is given.

    Args:
        outs, lses, sinks: as `merge_attention`.
        out: ``[num_tokens, num_heads, head_dim]``, contiguous.
        lse: ``[num_tokens, num_heads]`` float32, contiguous; sinks are no part of it.
        strips: whose rows the parts' rows are, and the requests of its `KernelIndex`; None: row i is row i.
    """
    num_parts, num_rows, num_heads, head_dim = outs.shape
    index, requests, strip_rows = (None, None, 1) if strips is None else (strips[0].index, strips[1], strips[0].rows)
    with launching(outs.device):
        _merge_kernel[num_rows, num_heads](
            outs,
            lses,
            sinks,
            index,
            requests,
            out,
            lse,
            num_parts,
            STRIP_ROWS=strip_rows,
            HEAD_DIM=head_dim,
            DIM=triton.next_power_of_2(head_dim),
            PARTS=min(MAX_PARTS, triton.next_power_of_2(num_parts)),
            num_warps=1,
        )


def _check(outs: torch.Tensor, lses: torch.Tensor, sinks: torch.Tensor | None) -> None:
    if outs.dtype not in {torch.float32, torch.float64} or lses.dtype != outs.dtype:
        raise TypeError(f"parts must be float32 or float64, outs as lses, got {outs.dtype} and {lses.dtype}")
    if outs.dim() != 4 or lses.shape != outs.shape[:3] or not len(outs):
        raise ValueError(
            "outs must be [num_parts, num_tokens, num_heads, head_dim] with at least one part, and lses the same "
            f"without head_dim, got {list(outs.shape)} and {list(lses.shape)}"
        )
    if sinks is not None and tuple(sinks.shape) != outs.shape[2:3]:
        raise ValueError(f"sinks must be one logit a head, ({outs.shape[2]},), got {tuple(sinks.shape)}")
    devices = {each.device for each in (outs, lses, sinks) if each is not None}
    if len(devices) > 1:
        raise ValueError(f"parts and sinks must be on one device, got {sorted(map(str, devices))}")

"""The Triton kernels of attention over paged KV; `_attention_launch` chooses their tiles.

One program attends some query rows of a request, with some or all heads of one KV head, over some or all of the keys
they see. Its rows and heads together are the rows of a matrix product, so that K and V are loaded once for all of them.

Ours:  online softmax as in FlashAttention (arXiv 2205.14135), in base 2; all else is the ragged batch.
Invariants:
1. No slot is read that no row of the program sees: loads are masked by the range of keys and by the window.
2. Arithmetic is in float32. Products of float16 or bfloat16 are exact in tf32, those of float32 are not made in it.
3. Addresses are 64 bits wide.
"""

from __future__ import annotations

from typing import Any

from fastswitch.kernels._triton import INTERPRETED

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["attention_kernel", "rounded", "shift_of"]

attention_kernel: Any = None  # without Triton
rounded: Any = None
shift_of: Any = None

if triton is not None:
    LN_2 = tl.constexpr(0.6931471805599453)
    TRUNCATES_BFLOAT16 = tl.constexpr(INTERPRETED)

    @triton.jit
    def rounded(x: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
        """Float32 values that a store to ``dtype`` keeps as they are: the interpreter truncates to bfloat16."""
        if TRUNCATES_BFLOAT16 and dtype == tl.bfloat16:
            bits = x.to(tl.uint32, bitcast=True)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
            x = bits.to(tl.float32, bitcast=True)
        return x

    @triton.jit
    def shift_of(top: tl.tensor) -> tl.tensor:
        """What is taken off exponents of which ``top`` is the largest: -inf - -inf would be NaN."""
        return tl.where(top == float("-inf"), 0.0, top)

    @triton.jit
    def _load_slots(
        cache_ptr: tl.tensor,  # [num_blocks, BLOCK_SIZE, HEAD_DIM], one KV head
        block_id: tl.tensor,  # [N] int64
        offset: tl.tensor,  # [N], within the block
        in_range: tl.tensor,  # [N]; others are not read, and 0
        dim: tl.tensor,  # [DIM]
        stride_block: tl.tensor,
        stride_slot: tl.tensor,
        stride_dim: tl.tensor,
        HEAD_DIM: tl.constexpr,
    ) -> tl.tensor:
        slot_ptr = cache_ptr + block_id * stride_block + offset.to(tl.int64) * stride_slot
        pointers = slot_ptr[:, None] + dim.to(tl.int64)[None, :] * stride_dim
        return tl.load(pointers, mask=in_range[:, None] & (dim[None, :] < HEAD_DIM), other=0.0).to(tl.float32)

    @triton.jit
    def _score(
        query: tl.tensor,  # [M, DIM]
        key: tl.tensor,  # [N, DIM]
        row_position: tl.tensor,  # [M], counted from the request's first key
        key_position: tl.tensor,  # [N], as above
        in_range: tl.tensor,  # [N]
        score_factor: tl.tensor,
        cap: tl.tensor | None,
        window: tl.tensor | None,
        PRECISION: tl.constexpr,
    ) -> tl.tensor:
        """``[M, N]`` scores in base 2; -inf where a row does not see a key."""
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * score_factor
        if cap is not None:
            scores = cap * (2 * tl.sigmoid(2 * scores) - 1)
        visible = in_range[None, :] & (key_position[None, :] <= row_position[:, None])
        if window is not None:
            visible &= key_position[None, :] > row_position[:, None] - window
        return tl.where(visible, scores, float("-inf"))

    @triton.jit
    def attention_kernel(
        query_ptr: tl.tensor,  # [num_tokens, num_heads, HEAD_DIM]
        k_cache_ptr: tl.tensor,  # [num_blocks, BLOCK_SIZE, num_kv_heads, HEAD_DIM]
        v_cache_ptr: tl.tensor,  # as k_cache_ptr
        strips_ptr: tl.tensor,  # [num_strips, 2] int32, of `Strips`
        requests_ptr: tl.tensor,  # [num_requests, 5] int32, of `KernelIndex`
        block_ids_ptr: tl.tensor,  # [...] int32
        sinks_ptr: tl.tensor | None,  # [num_heads]; or None
        out_ptr: tl.tensor,  # [num_tokens, num_heads, HEAD_DIM], or if IN_STRIPS
        # [num_splits, num_strips * STRIP_ROWS, num_heads, HEAD_DIM]
        lse_ptr: tl.tensor | None,  # as out_ptr without HEAD_DIM; or None
        score_factor: tl.tensor,  # brings scores to base 2; before a cap, to units of the cap
        cap: tl.tensor | None,  # the softcap in base 2; or None
        window: tl.tensor | None,  # or None
        split_keys: tl.tensor,  # keys that a program attends over
        group: tl.tensor,  # query heads a KV head
        num_kv_heads: tl.tensor,
        query_stride_row: tl.tensor,
        query_stride_head: tl.tensor,
        query_stride_dim: tl.tensor,
        k_stride_block: tl.tensor,
        k_stride_slot: tl.tensor,
        k_stride_head: tl.tensor,
        k_stride_dim: tl.tensor,
        v_stride_block: tl.tensor,
        v_stride_slot: tl.tensor,
        v_stride_head: tl.tensor,
        v_stride_dim: tl.tensor,
        HEAD_DIM: tl.constexpr,
        BLOCK_SIZE: tl.constexpr,
        STRIP_ROWS: tl.constexpr,
        STRIPS: tl.constexpr,  # a program attends so many strips
        HEADS: tl.constexpr,  # query heads of a program, a power of two
        M: tl.constexpr,  # rows and heads, padded
        N: tl.constexpr,  # keys of a step
        DIM: tl.constexpr,  # HEAD_DIM, padded
        PRECISION: tl.constexpr,
        IN_STRIPS: tl.constexpr,  # write row i of strip s to row s * STRIP_ROWS + i, not to its own
    ) -> None:
        # grid: (num_strips, num_kv_heads * cdiv(group, HEADS), num_splits)
        strip = tl.program_id(0)
        request = tl.load(strips_ptr + strip * 2)
        first = tl.load(strips_ptr + strip * 2 + 1)
        if first % (STRIPS * STRIP_ROWS) != 0:
            return  # the program of an earlier strip attends it
        query_len = tl.load(requests_ptr + request * 5 + 1)
        position = tl.load(requests_ptr + request * 5 + 2)
        table_ptr = block_ids_ptr + tl.load(requests_ptr + request * 5 + 4)

        m, n, dim = tl.arange(0, M), tl.arange(0, N), tl.arange(0, DIM)
        kv_head = tl.program_id(1) % num_kv_heads
        member = tl.program_id(1) // num_kv_heads * HEADS + m % HEADS
        row, head = first + m // HEADS, (kv_head * group + member).to(tl.int64)
        held = (row < query_len) & (member < group)
        token = (tl.load(requests_ptr + request * 5) + row).to(tl.int64)
        query_rows = query_ptr + token * query_stride_row + head * query_stride_head
        query_pointers = query_rows[:, None] + dim.to(tl.int64)[None, :] * query_stride_dim
        query = tl.load(query_pointers, mask=held[:, None] & (dim[None, :] < HEAD_DIM), other=0.0).to(tl.float32)

        last = position + tl.minimum(first + STRIPS * STRIP_ROWS, query_len) - 1
        stop = tl.minimum(tl.load(requests_ptr + request * 5 + 3), last + 1)
        start = tl.program_id(2) * split_keys
        if window is not None:
            start += tl.maximum(position + first - window + 1, 0)
        stop = tl.minimum(stop, start + split_keys)
        k_head_ptr = k_cache_ptr + kv_head.to(tl.int64) * k_stride_head
        v_head_ptr = v_cache_ptr + kv_head.to(tl.int64) * v_stride_head
        top = tl.full([M], float("-inf"), tl.float32)
        total = tl.zeros([M], tl.float32)
        acc = tl.zeros([M, DIM], tl.float32)
        for step in range(start, stop, N):
            key_position = step + n
            in_range = key_position < stop
            block_id = tl.load(table_ptr + key_position // BLOCK_SIZE, mask=in_range, other=0).to(tl.int64)
            offset = key_position % BLOCK_SIZE
            key = _load_slots(
                k_head_ptr, block_id, offset, in_range, dim, k_stride_block, k_stride_slot, k_stride_dim, HEAD_DIM
            )
            scores = _score(query, key, position + row, key_position, in_range, score_factor, cap, window, PRECISION)
            new_top = tl.maximum(top, tl.max(scores, 1))
            shift = shift_of(new_top)
            weights = tl.exp2(scores - shift[:, None])
            decay = tl.exp2(top - shift)
            total = total * decay + tl.sum(weights, 1)
            value = _load_slots(
                v_head_ptr, block_id, offset, in_range, dim, v_stride_block, v_stride_slot, v_stride_dim, HEAD_DIM
            )
            acc = tl.dot(weights, value, acc * decay[:, None], input_precision=PRECISION)
            top = new_top

        seen = total != 0  # a NaN is one that was seen
        target = strip * STRIP_ROWS + m // HEADS if IN_STRIPS else token
        num_rows = tl.num_programs(0) * STRIP_ROWS
        index = (tl.program_id(2).to(tl.int64) * num_rows + target) * (group * num_kv_heads) + head
        if lse_ptr is not None:
            lse = tl.where(seen, (top + tl.log2(tl.where(seen, total, 1.0))) * LN_2, float("-inf"))
            tl.store(lse_ptr + index, lse, mask=held)
        if sinks_ptr is not None:
            sink = tl.load(sinks_ptr + head, mask=held, other=0.0).to(tl.float32) / LN_2
            shift = shift_of(tl.maximum(top, sink))
            decay = tl.exp2(top - shift)
            acc *= decay[:, None]
            total = total * decay + tl.exp2(sink - shift)
        out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        out_pointers = out_ptr + index[:, None] * HEAD_DIM + dim[None, :]
        out_mask = held[:, None] & (dim[None, :] < HEAD_DIM)
        tl.store(out_pointers, rounded(out, out_ptr.dtype.element_ty), mask=out_mask)

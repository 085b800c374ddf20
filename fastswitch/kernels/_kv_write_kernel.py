"""The Triton kernel that writes a step's keys and values into their slots, and its launch.

Ours:  a program a token, which moves K and V as integers; the widest word is chosen from addresses and strides.
Invariants:
1. `write_kv`'s.
2. Addresses are 64 bits wide.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from fastswitch.kernels._triton import launching

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["launch_write"]

# A lane moves 16 bytes at a time, so a warp 512: with fewer warps each lane moves several. Not measured on a GPU.
BYTES_PER_WARP = 512
MAX_WARPS = 8


if triton is not None:

    @triton.jit
    def _as_words(pointer: tl.tensor, WORD: tl.constexpr, ALIGN: tl.constexpr) -> tl.tensor:
        """A cast loses what is known of an argument's alignment, and without it single words are moved."""
        return tl.multiple_of(pointer.to(tl.pointer_type(WORD)), ALIGN)

    @triton.jit
    def _write_kernel(
        key_ptr: tl.tensor,  # [num_tokens, num_kv_heads, head_dim]
        value_ptr: tl.tensor,  # as key_ptr
        k_cache_ptr: tl.tensor,  # [num_blocks, BLOCK_SIZE, num_kv_heads, head_dim]
        v_cache_ptr: tl.tensor,  # as k_cache_ptr
        slot_mapping_ptr: tl.tensor,  # [num_tokens] int64, -1 = padding
        num_kv_heads: tl.tensor,
        num_units: tl.tensor,  # of a head; a unit is ALIGN bytes, and strides are in units, those of words in words
        key_stride_token: tl.tensor,
        key_stride_head: tl.tensor,
        key_stride_word: tl.tensor,
        value_stride_token: tl.tensor,
        value_stride_head: tl.tensor,
        value_stride_word: tl.tensor,
        k_stride_block: tl.tensor,
        k_stride_slot: tl.tensor,
        k_stride_head: tl.tensor,
        k_stride_word: tl.tensor,
        v_stride_block: tl.tensor,
        v_stride_slot: tl.tensor,
        v_stride_head: tl.tensor,
        v_stride_word: tl.tensor,
        BLOCK_SIZE: tl.constexpr,
        WORD: tl.constexpr,  # integer type that is moved
        UNIT: tl.constexpr,  # words in ALIGN bytes
        ALIGN: tl.constexpr,  # bytes; divides every address and every stride
        HEADS: tl.constexpr,  # num_kv_heads, padded
        WORDS: tl.constexpr,  # of a head, padded
    ) -> None:
        # grid: (num_tokens,); a program writes K and V of one token
        token = tl.program_id(0).to(tl.int64)
        slot = tl.load(slot_mapping_ptr + token)
        block_id, offset = slot // BLOCK_SIZE, slot % BLOCK_SIZE
        head, word = tl.arange(0, HEADS)[:, None].to(tl.int64), tl.arange(0, WORDS)[None, :].to(tl.int64)
        mask = (head < num_kv_heads) & (word < num_units * UNIT)
        # Nothing here waits for the slot: both rows are under way before it is known.
        key_row = _as_words(key_ptr, WORD, ALIGN) + token * key_stride_token * UNIT
        key = tl.load(key_row + head * key_stride_head * UNIT + word * key_stride_word, mask=mask)
        value_row = _as_words(value_ptr, WORD, ALIGN) + token * value_stride_token * UNIT
        value = tl.load(value_row + head * value_stride_head * UNIT + word * value_stride_word, mask=mask)
        if slot < 0:
            return
        k_row = _as_words(k_cache_ptr, WORD, ALIGN) + (block_id * k_stride_block + offset * k_stride_slot) * UNIT
        tl.store(k_row + head * k_stride_head * UNIT + word * k_stride_word, key, mask=mask)
        v_row = _as_words(v_cache_ptr, WORD, ALIGN) + (block_id * v_stride_block + offset * v_stride_slot) * UNIT
        tl.store(v_row + head * v_stride_head * UNIT + word * v_stride_word, value, mask=mask)


def launch_write(
    key: torch.Tensor, value: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """Launch the kernel on checked tensors."""
    tensors = (key, value, k_cache, v_cache)
    address = math.gcd(16, *(tensor.data_ptr() for tensor in tensors))
    shapes, strides = (key.shape, k_cache.shape), tuple(tensor.stride() for tensor in tensors)
    numbers, constants = _arguments(shapes, strides, key.element_size(), address)
    with launching(key.device):
        _write_kernel[(key.shape[0],)](*tensors, slot_mapping, *numbers, **constants)


@functools.lru_cache(maxsize=256)
def _arguments(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    strides: tuple[tuple[int, ...], ...],
    itemsize: int,
    address: int,
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The kernel's numbers and constants; the layers of a step have the same.

    Args:
        shapes: of keys and caches.
        strides: of key, value and their caches.
        itemsize: bytes of an element.
        address: the largest power of two, at most 16, that divides all four addresses.
    """
    (_, num_kv_heads, head_dim), (_, block_size, *_) = shapes
    dense = all(each[-1] == 1 for each in strides)
    align = _alignment(shapes, strides, itemsize, address) if dense else itemsize
    word_bytes, row_bytes = min(align, 8), head_dim * itemsize
    heads, words = triton.next_power_of_2(num_kv_heads), triton.next_power_of_2(row_bytes // word_bytes)
    in_units = (
        number
        for each in strides
        for number in (*(stride * itemsize // align for stride in each[:-1]), 1 if dense else each[-1])
    )
    constants = {
        "BLOCK_SIZE": block_size,
        "WORD": {1: tl.int8, 2: tl.int16, 4: tl.int32, 8: tl.int64}[word_bytes],
        "UNIT": align // word_bytes,
        "ALIGN": align,
        "HEADS": heads,
        "WORDS": words,
        "num_warps": min(MAX_WARPS, max(1, heads * words * word_bytes // BYTES_PER_WARP)),
    }
    return (num_kv_heads, row_bytes // align, *in_units), constants


def _alignment(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], strides: tuple[tuple[int, ...], ...], itemsize: int, address: int
) -> int:
    """The largest power of two, at most 16 bytes, that divides every address, stride and row."""
    tokens, cache = shapes
    steps = [
        stride
        for shape, each in zip((tokens, tokens, cache, cache), strides, strict=True)
        for stride, size in zip(each[:-1], shape[:-1], strict=True)
        if size > 1
    ]
    return math.gcd(address, *(step * itemsize for step in (tokens[-1], *steps)))

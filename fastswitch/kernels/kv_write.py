"""Write a step's new keys and values into their slots of a paged cache.

Layouts: ``key`` and ``value`` are ``[num_tokens, num_kv_heads, head_dim]``; a cache is a strided view
``[num_blocks, block_size, num_kv_heads, head_dim]`` of a pool and is written in place. A slot is
``block_id * block_size + offset``; -1 stands for padding, which is written nowhere.

Ours:  the op is every paged engine's; here it is one indexed assignment a cache, on any device.
Invariant: slots that are not named keep their bytes.
"""

from __future__ import annotations

import torch

__all__ = ["write_kv", "write_kv_reference"]


def write_kv_reference(
    key: torch.Tensor, value: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """The specification of `write_kv`: one token after the other."""
    block_size = k_cache.shape[1]
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot >= 0:
            k_cache[slot // block_size, slot % block_size] = key[token]
            v_cache[slot // block_size, slot % block_size] = value[token]


def write_kv(
    key: torch.Tensor, value: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """Write token i's key and value to slot ``slot_mapping[i]`` of the caches, in place.

    Enqueued on the current stream. Leaving out the padding costs a wait for the device where the tensors are on one.

    Args:
        key: ``[num_tokens, num_kv_heads, head_dim]``, any strides.
        value: as ``key``.
        k_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, any strides, dtype of ``key``.
        v_cache: as ``k_cache``, dtype of ``value``.
        slot_mapping: ``[num_tokens]`` int64 on the same device, -1 = padding. That slots are in range and differ is
            not checked.

    Raises:
        TypeError: if a dtype differs from its cache's, or the slots are not int64.
        ValueError: if the shapes do not match.
    """
    _check(key, k_cache, slot_mapping, "key")
    _check(value, v_cache, slot_mapping, "value")
    written = slot_mapping >= 0
    slots = slot_mapping[written]
    block_size = k_cache.shape[1]
    block_ids, offsets = slots // block_size, slots % block_size
    k_cache[block_ids, offsets] = key[written]
    v_cache[block_ids, offsets] = value[written]


def _check(tokens: torch.Tensor, cache: torch.Tensor, slot_mapping: torch.Tensor, name: str) -> None:
    if tokens.dtype != cache.dtype:
        raise TypeError(f"{name} must have its cache's dtype {cache.dtype}, got {tokens.dtype}")
    if slot_mapping.dtype != torch.int64:
        raise TypeError(f"slot_mapping must be int64, got {slot_mapping.dtype}")
    expected = (slot_mapping.shape[0], *cache.shape[2:])
    if tuple(tokens.shape) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {tuple(tokens.shape)}")

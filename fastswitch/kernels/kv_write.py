"""Write a step's new keys and values into their slots of a paged cache.

Layouts: ``key`` and ``value`` are ``[num_tokens, num_kv_heads, head_dim]``; a cache is a view ``[num_blocks,
block_size, num_kv_heads, head_dim]`` of a pool and is written in place; any strides. A slot is ``block_id * block_size
+ offset``; -1 stands for padding, which is written nowhere.

Ours:  one launch for K and V of all tokens, in integer words as wide as the strides allow; floats are never touched.
Backends: CUDA tensors run the Triton kernel, CPU tensors numpy's indexing; with ``TRITON_INTERPRET=1`` set before the
import, CPU tensors run the Triton kernel, for tests. Without Triton installed CUDA tensors are indexed by torch,
which waits for the device to count the padding.
Invariants:
1. The bytes arrive as they are, NaN payloads included; slots that are not named keep their bytes.
2. With Triton nothing here waits for a device.
"""

from __future__ import annotations

import torch

from fastswitch.kernels._blocks import as_integers
from fastswitch.kernels._kv_write_kernel import launch_write
from fastswitch.kernels._triton import takes_kernel, upload

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

    Enqueued on the current stream.

    Args:
        key: ``[num_tokens, num_kv_heads, head_dim]``, any strides.
        value: as ``key``.
        k_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, any strides, dtype of ``key``.
        v_cache: as ``k_cache``.
        slot_mapping: ``[num_tokens]`` int64, -1 = padding. On the host: checked, then uploaded; on the device: trusted.
            That slots differ is not checked.

    Raises:
        TypeError: if the dtypes differ, or the slots are not int64.
        ValueError: if shapes or devices do not match.
        IndexError: if a host slot is outside ``[-1, num_blocks * block_size)``.
    """
    _check(key, value, k_cache, v_cache, slot_mapping)
    if slot_mapping.device.type == "cpu":
        _check_slots(slot_mapping, k_cache.shape[0] * k_cache.shape[1])
        slot_mapping = upload(slot_mapping.numpy(), key.device)
    if key.numel() == 0:
        return
    if takes_kernel(key.device):
        launch_write(key, value, k_cache, v_cache, slot_mapping)
    else:
        _write_by_indexing(key, value, k_cache, v_cache, slot_mapping)


# numpy scatters faster than `index_put_`, and on one core.
def _write_by_indexing(
    key: torch.Tensor, value: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    written = slot_mapping >= 0
    slots, block_size = slot_mapping[written], k_cache.shape[1]
    block_ids, offsets = slots // block_size, slots % block_size
    for tokens, cache in ((key, k_cache), (value, v_cache)):
        if cache.device.type == "cpu":
            as_integers(cache).numpy()[block_ids.numpy(), offsets.numpy()] = as_integers(tokens).numpy()[
                written.numpy()
            ]
        else:
            cache[block_ids, offsets] = tokens[written]


def _check(
    key: torch.Tensor, value: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    for name, tokens, cache in (("key", key, k_cache), ("value", value, v_cache)):
        if tokens.dtype != cache.dtype:
            raise TypeError(f"{name} must have its cache's dtype {cache.dtype}, got {tokens.dtype}")
        if tokens.device != cache.device:
            raise ValueError(f"{name} must be on its cache's device {cache.device}, got {tokens.device}")
    if k_cache.dtype != v_cache.dtype or k_cache.device != v_cache.device:
        found = f"{k_cache.dtype} on {k_cache.device} and {v_cache.dtype} on {v_cache.device}"
        raise TypeError(f"k_cache and v_cache must have one dtype and device, got {found}")
    if slot_mapping.dtype != torch.int64:
        raise TypeError(f"slot_mapping must be int64, got {slot_mapping.dtype}")
    if slot_mapping.device.type != "cpu" and slot_mapping.device != key.device:
        raise ValueError(f"slot_mapping must be on the host or on {key.device}, got {slot_mapping.device}")
    if k_cache.dim() != 4 or k_cache.shape != v_cache.shape:
        shapes = f"{tuple(k_cache.shape)} and {tuple(v_cache.shape)}"
        raise ValueError(f"caches must be [num_blocks, block_size, num_kv_heads, head_dim] both, got {shapes}")
    expected = (*slot_mapping.shape, *k_cache.shape[2:])
    for name, tensor in (("key", key), ("value", value)):
        if tuple(tensor.shape) != expected or slot_mapping.dim() != 1:
            raise ValueError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")


def _check_slots(slot_mapping: torch.Tensor, num_slots: int) -> None:
    outside = ((slot_mapping < -1) | (slot_mapping >= num_slots)).nonzero()
    if len(outside):
        index = int(outside[0, 0])
        slot = int(slot_mapping[index])
        raise IndexError(f"slot_mapping must be in [-1, {num_slots}), got {slot} at index {index}")

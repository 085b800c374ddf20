"""Block ids as the copy functions take them: checked on the host, trusted on the device.

Ours:  the rule and its messages. Reading ids back from a device to check them would stall the stream they wait on.
Invariant: a host id that leaves this file is in range and int64; one list of destinations never repeats a block.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["BlockIds", "check_disjoint", "check_unique", "prepare_block_ids"]

BlockIds = torch.Tensor | np.ndarray


def prepare_block_ids(ids: BlockIds, num_blocks: int, device: torch.device, *, name: str) -> torch.Tensor:
    """Check host ids and bring them to ``device``; ids already there are returned as they are.

    Args:
        ids: ``[n]`` integers, a numpy array or a tensor. On the host: checked; on ``device``: only dtype and shape are.
        num_blocks: blocks of the tensor that the ids point into.
        device: where the blocks are.
        name: the caller's parameter, for the messages.

    Returns:
        ``[n]`` int64 (int32 if the ids were int32 on the device) on ``device``.

    Raises:
        TypeError: if the ids are no integers, or no array at all.
        ValueError: if they are not one-dimensional, or on a third device.
        IndexError: if a host id is outside ``[0, num_blocks)``.
    """
    if isinstance(ids, torch.Tensor) and ids.device.type != "cpu":
        return _trusted_ids(ids, device, name)
    array = _host_array(ids, name)
    out_of_range = np.flatnonzero((array < 0) | (array >= num_blocks))
    if out_of_range.size:
        index = int(out_of_range[0])
        raise IndexError(f"{name} must be in [0, {num_blocks}), got {array[index]} at index {index}")
    return torch.from_numpy(array).to(device, non_blocking=True)


def check_unique(ids: BlockIds, *, name: str) -> None:
    """Refuse host ids that name one destination twice: which of the two copies wins would be chance.

    Raises:
        ValueError: if a host id repeats. Ids on a device are not looked at.
    """
    if isinstance(ids, torch.Tensor) and ids.device.type != "cpu":
        return
    blocks, counts = np.unique(_host_array(ids, name), return_counts=True)
    if (counts > 1).any():
        first = int(np.argmax(counts > 1))
        raise ValueError(f"{name} must not repeat a destination, got block {blocks[first]} {counts[first]} times")


def check_disjoint(src_ids: BlockIds, dst_ids: BlockIds) -> None:
    """Refuse a block of one pool that is both read and written: which comes first would be chance.

    Raises:
        ValueError: if a host id is in both. Ids on a device are not looked at.
    """
    if any(isinstance(ids, torch.Tensor) and ids.device.type != "cpu" for ids in (src_ids, dst_ids)):
        return
    both = np.intersect1d(_host_array(src_ids, "src_ids"), _host_array(dst_ids, "dst_ids"))
    if both.size:
        raise ValueError(f"src_ids and dst_ids must be disjoint within one pool, got block {both[0]} in both")


def _trusted_ids(ids: torch.Tensor, device: torch.device, name: str) -> torch.Tensor:
    if ids.dtype not in {torch.int32, torch.int64}:
        raise TypeError(f"{name} on a device must be int32 or int64, got {ids.dtype}")
    if ids.dim() != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {tuple(ids.shape)}")
    if ids.device != device:
        raise ValueError(f"{name} must be on the host or on {device}, where the blocks are, got {ids.device}")
    return ids.contiguous()


def _host_array(ids: BlockIds, name: str) -> np.ndarray:
    """The ids as int64; no copy if they already are."""
    if not isinstance(ids, torch.Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or a numpy array, got {type(ids).__name__}")
    dtype = ids.dtype
    array = ids.numpy() if isinstance(ids, torch.Tensor) else ids
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int64)

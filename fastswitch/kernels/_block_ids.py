"""Block ids as the copy functions take them: checked on the host, trusted on the device.

Ours:  the rule and its messages. Reading ids back from a device to check them would stall the stream they wait on.
Invariant: host ids leave this file as int64 numpy arrays and in range; ids on a device leave it as they came.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["BlockIds", "check_unique", "host_array", "read_ids"]

BlockIds = torch.Tensor | np.ndarray


def read_ids(ids: BlockIds, num_blocks: int, device: torch.device, *, name: str) -> np.ndarray | torch.Tensor:
    """Check ids; nothing is uploaded.

    Args:
        ids: ``[n]`` integers, a numpy array or a tensor. On the host: checked; on ``device``: only dtype and shape are.
        num_blocks: blocks of the tensor that the ids point into.
        device: where the blocks are.
        name: the caller's parameter, for the messages.

    Returns:
        ``[n]``: of ids on the host an int64 array, of ids on ``device`` these, int32 or int64.

    Raises:
        TypeError: if the ids are no integers, or no array at all.
        ValueError: if they are not one-dimensional, or on a third device.
        IndexError: if a host id is outside ``[0, num_blocks)``.
    """
    if isinstance(ids, torch.Tensor) and ids.device.type != "cpu":
        return _trusted_ids(ids, device, name)
    array = host_array(ids, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    out_of_range = np.flatnonzero((array < 0) | (array >= num_blocks))
    if out_of_range.size:
        index = int(out_of_range[0])
        raise IndexError(f"{name} must be in [0, {num_blocks}), got {array[index]} at index {index}")
    return array


def check_unique(ids: np.ndarray | torch.Tensor, *, name: str) -> None:
    """Refuse host ids that name one destination twice: which of the two copies wins would be chance.

    Raises:
        ValueError: if a host id repeats. Ids on a device are not looked at.
    """
    if isinstance(ids, torch.Tensor):
        return
    ordered = np.sort(ids)
    repeats = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeats.size:
        times = np.count_nonzero(ids == repeats[0])
        raise ValueError(f"{name} must not repeat a destination, got block {repeats[0]} {times} times")


def host_array(integers: BlockIds, name: str) -> np.ndarray:
    """Integers on the host as int64 of any shape; no copy if they already are.

    Raises:
        TypeError: if they are no integers, or no array at all.
    """
    if not isinstance(integers, torch.Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or a numpy array, got {type(integers).__name__}")
    array = integers.numpy() if isinstance(integers, torch.Tensor) else integers
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {integers.dtype}")
    return np.asarray(array, dtype=np.int64)


def _trusted_ids(ids: torch.Tensor, device: torch.device, name: str) -> torch.Tensor:
    if ids.dtype not in {torch.int32, torch.int64}:
        raise TypeError(f"{name} on a device must be int32 or int64, got {ids.dtype}")
    if ids.dim() != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {tuple(ids.shape)}")
    if ids.device != device:
        raise ValueError(f"{name} must be on the host or on {device}, where the blocks are, got {ids.device}")
    return ids.contiguous()

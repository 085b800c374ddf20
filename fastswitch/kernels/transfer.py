"""The ways bytes cross between two tiers, written so that they can be compared.

Layouts: a pool is a tuple of *planes*, contiguous tensors ``[num_blocks, plane_numel]``. A block-major pool is one
plane; a layer-major pool has ``2 * num_layers``: layer 0 K, layer 0 V, layer 1 K, ... A *run* is a row (src_start,
dst_start, num_blocks): blocks that are contiguous on both sides.

| way | what is issued for a job | between orders |
|---|---|---|
| `per_block` | a memcpy a block and plane | |
| `per_run` | a memcpy a run and plane | |
| `batched` | one call of the driver that takes all of `per_run`'s copies | |
| `zero_copy` | one launch of a kernel that reads or writes pinned host memory | yes |
| `staged` | launches that gather into (scatter from) a device buffer, few large memcpys | yes |

Paper: FastSwitch (arXiv 2411.18424) copies contiguous block groups where vLLM 0.3 copies single blocks.
Ours:  the other three, and that all keep one contract. On a CPU, `batched` is one call of numpy's indexing, `zero_copy`
       is `copy_blocks`, `staged` gathers and copies; none of them has a link to be faster on.
Invariants:
1. `TransferCount.calls` is the number of calls that were issued.
2. Bytes move between equal dtypes only: nothing is converted.
3. Nothing here waits: copies to and from a device are enqueued on the current stream, and the caller synchronises.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch

from fastswitch.kernels._memcpy import copy_each, current_stream, list_copies, slice_copies
from fastswitch.kernels._memcpy_batch import copy_batch, why_no_batch
from fastswitch.kernels._planes import Pairs, Planes, TransferCount, check_transfer, moved_bytes
from fastswitch.kernels._runs import expand_runs
from fastswitch.kernels._stacked import stack_planes
from fastswitch.kernels._triton import cuda_device, why_no_kernel
from fastswitch.kernels.staged import staged
from fastswitch.kernels.zero_copy import zero_copy

__all__ = [
    "TRANSFERS",
    "TRANSPOSING",
    "Planes",
    "Transfer",
    "TransferCount",
    "batched",
    "per_block",
    "per_run",
    "staged",
    "why_not",
    "zero_copy",
]


class Transfer(Protocol):
    """A way to move runs of blocks from one pool to another."""

    def __call__(self, src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
        """Copy the runs, on the current stream where a device takes part; the caller synchronises.

        Args:
            src_planes: contiguous tensors ``[num_src_blocks, plane_numel]``, on the host or a device.
            dst_planes: as many tensors ``[num_dst_blocks, plane_numel]`` of the same dtypes; `TRANSPOSING` ways take
                pools of different order too. Where a device takes part the host's must be pinned, and if they were
                registered in pieces, no run may cross one (``fastswitch.memory.cut_runs``): the driver refuses it.
            runs: ``[n, 3]`` integers (src_start, dst_start, num_blocks).

        Raises:
            ValueError: if the planes or the shape of ``runs`` do not match, a run has no block, or a block would be
                written twice, or both read and written.
            TypeError: if dtypes differ or ``runs`` are no integers.
            IndexError: if a run leaves a pool.
            RuntimeError: if the driver refuses a copy, or lacks what the way needs (`why_not`).
        """
        ...


def per_block(src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
    """One memcpy a block and plane, issued from C, as vLLM 0.3; arguments and errors as `Transfer`."""
    pairs = check_transfer(src_planes, dst_planes, runs)
    src_ids, dst_ids = expand_runs(runs)
    return _each(pairs, np.stack([src_ids, dst_ids, np.ones_like(src_ids)], axis=1))


def per_run(src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
    """One memcpy a run and plane, issued from C, as FastSwitch; arguments and errors as `Transfer`."""
    return _each(check_transfer(src_planes, dst_planes, runs), runs)


def batched(src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
    """One call that takes every run of every plane; arguments and errors as `Transfer`.

    On CUDA it is ``cuMemcpyBatchAsync``, which needs the extra ``cuda``, driver 12.8 and a stream that is not the
    default one. On a CPU planes that are one memory, as a `KVPool`'s are, take one call of numpy's indexing together.
    """
    pairs = check_transfer(src_planes, dst_planes, runs)
    if not len(runs):
        return TransferCount(0, 0, 0)
    copies = len(pairs) * len(runs)
    device = cuda_device(pairs[0])
    if device is not None:
        copy_batch(list_copies(pairs, runs), current_stream(device))
        return TransferCount(moved_bytes(pairs, runs), copies=copies, calls=1)
    src_ids, dst_ids = expand_runs(runs)
    stacks = stack_planes(pairs)
    for src, dst in stacks:
        dst[:, dst_ids] = src[:, src_ids]
    return TransferCount(moved_bytes(pairs, runs), copies=copies, calls=len(stacks))


TRANSFERS: Mapping[str, Transfer] = MappingProxyType(
    {"per_block": per_block, "per_run": per_run, "batched": batched, "zero_copy": zero_copy, "staged": staged}
)
TRANSPOSING = ("zero_copy", "staged")  # the ways that copy between pools of different order


def why_not(way: str, device: torch.device | str) -> str | None:
    """Why a way cannot be taken to and from a device, with the way out; None if it can.

    Raises:
        ValueError: if the way is not in `TRANSFERS`.
    """
    if way not in TRANSFERS:
        raise ValueError(f"unknown transfer {way!r}: known are {', '.join(TRANSFERS)}")
    if torch.device(device).type == "cpu":
        return None
    if way in TRANSPOSING:
        return why_no_kernel(way)
    return why_no_batch() if way == "batched" else None


def _each(pairs: Pairs, runs: np.ndarray) -> TransferCount:
    device = cuda_device(pairs[0]) if pairs else None
    if device is None:
        slice_copies(pairs, runs)
    elif len(runs):
        copy_each(list_copies(pairs, runs), current_stream(device))
    copies = len(pairs) * len(runs)
    return TransferCount(moved_bytes(pairs, runs), copies=copies, calls=copies)

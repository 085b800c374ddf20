"""Block copies without a kernel: numpy on the CPU, torch on a device where Triton is missing.

Ours:  how a copy is divided into calls, as measured on two EPYC cores: 64 MiB moved in pools of 256 MiB, alone, then
beside a thread of small torch operations (the last two columns, relative to each of them alone):

| way | GB/s, blocks of 32 KiB | 256 KiB | speed of the copy | of the other thread |
|---|---|---|---|---|
| ``dst[ids] = src[ids]`` in one call | 2.9 | 3.1 | 1.0 | 1.0 |
| 4 MiB a call | 4.5 | 4.7 | 0.9 | 0.9 |
| 256 KiB a call | 4.7 | 5.0 | 0.6 | 0.4 |
| a slice a run of 256 KiB | 7.2 | 6.9 | 0.7 | 0.5 |
| a slice a run of 2 MiB | 7.1 | 7.3 | 1.0 | 0.9 |

Between two calls a loop holds the GIL: short calls cost the other thread more than they gain. And 4 MiB is a temporary
that the allocator keeps. torch's own ``dst[ids] = src[ids]`` copies 1.5 GB/s. Into contiguous memory ``np.take`` needs
no temporary: 6.6 to 8 GB/s.
"""

from __future__ import annotations

import numpy as np
import torch

from fastswitch.kernels._blocks import as_integers
from fastswitch.kernels._runs import expand_runs
from fastswitch.kernels._triton import upload

__all__ = ["copy_ids", "copy_runs", "empty"]

CALL_BYTES = 4 << 20  # of one indexed call
LONG_RUN_BYTES = 1 << 20  # runs of this mean size are copied by slices

Ids = np.ndarray | torch.Tensor | None


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """New memory on the CPU, numpy's: it lies in huge pages, and torch's is filled at half the speed."""
    words = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64, 16: np.complex128}[dtype.itemsize]
    return torch.from_numpy(np.empty(shape, dtype=words)).view(dtype)


def copy_ids(src: torch.Tensor, dst: torch.Tensor, src_ids: Ids, dst_ids: Ids) -> None:
    """Copy block ``src_ids[i]`` to block ``dst_ids[i]``; ``None`` in place of ids stands for all blocks in order."""
    if src.device.type == "cpu":
        _copy_ids_on_host(src, dst, src_ids, dst_ids)
    else:
        as_integers(dst)[_on_device(dst_ids, dst.device)] = as_integers(src)[_on_device(src_ids, src.device)]


def copy_runs(src: torch.Tensor, dst: torch.Tensor, runs: np.ndarray) -> None:
    """Copy runs ``[n, 3]`` of at least one block."""
    if src.device.type != "cpu":
        for src_start, dst_start, num_blocks in runs.tolist():
            dst.narrow(0, dst_start, num_blocks).copy_(src.narrow(0, src_start, num_blocks))
    elif int(runs[:, 2].sum()) * src[:1].nbytes < LONG_RUN_BYTES * len(runs):
        _copy_ids_on_host(src, dst, *expand_runs(runs))
    else:
        source, destination = as_integers(src).numpy(), as_integers(dst).numpy()
        for src_start, dst_start, num_blocks in runs.tolist():
            destination[dst_start : dst_start + num_blocks] = source[src_start : src_start + num_blocks]


def _copy_ids_on_host(src: torch.Tensor, dst: torch.Tensor, src_ids: Ids, dst_ids: Ids) -> None:
    source, destination = as_integers(src).numpy(), as_integers(dst).numpy()
    gathers = dst_ids is None and source.flags.c_contiguous and destination.flags.c_contiguous
    num_blocks = len(src) if src_ids is None else len(src_ids)
    step = max(1, CALL_BYTES // src[:1].nbytes)
    for start in range(0, num_blocks, step):
        part = slice(start, start + step)
        read = part if src_ids is None else np.asarray(src_ids[part])
        if gathers and isinstance(read, np.ndarray):
            # Any other mode would take a temporary; ids are in range.
            np.take(source, read, axis=0, out=destination[part], mode="clip")
        else:
            destination[part if dst_ids is None else np.asarray(dst_ids[part])] = source[read]


def _on_device(ids: Ids, device: torch.device) -> torch.Tensor | slice:
    if ids is None:
        return slice(None)
    return upload(ids, device) if isinstance(ids, np.ndarray) else ids

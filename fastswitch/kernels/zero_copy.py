"""A kernel that reads or writes pinned host memory itself: one launch moves a whole job, in either order of layout.

Paper: none of this; FastSwitch (arXiv 2411.18424) copies with memcpys.
Ours:  the copy kernel of `block_copy`, on few programs: they keep the link busy and leave the multiprocessors to the
       model. Published engines do it with 2 to 12 programs; sources differ on whether it ever beats the copy engines,
       so it is one way among those that are measured.
Invariant: host memory is reached by its own address, so it must be pinned where a CUDA device takes part.
"""

from __future__ import annotations

import numpy as np

from fastswitch.kernels._copy_kernel import launch_runs
from fastswitch.kernels._planes import Pairs, Planes, TransferCount, check_transfer, moved_bytes
from fastswitch.kernels._triton import kernel_device
from fastswitch.kernels.block_copy import copy_blocks

__all__ = ["zero_copy"]

# Chosen by benchmarks/sweep_zero_copy.py on an H200, 2026-11-26: pieces of 8 KiB from the host reach 0.87 of one memcpy
# with 12 programs, 0.93 with 16 to 132; larger pieces, and the way out, 0.93 to 0.98 with any number from 8 on.
NUM_PROGRAMS = 16


def zero_copy(src_planes: Planes, dst_planes: Planes, runs: np.ndarray) -> TransferCount:
    """One kernel launch a job; arguments and errors as `Transfer`, and the pools may differ in order.

    On a CPU it is `copy_blocks`, nothing staged between.

    Raises:
        ValueError: if a CUDA device takes part and the host's planes are not page-locked.
        RuntimeError: if a CUDA device takes part and Triton is not installed.
    """
    pairs = check_transfer(src_planes, dst_planes, runs, transposes=True)
    if not len(runs):
        return TransferCount(0, 0, 0)
    device = kernel_device(pairs[0], "zero_copy")
    if device is None:
        sources, destinations = (tuple(side) for side in zip(*pairs, strict=True))
        copy_blocks(sources, destinations, runs)
    else:
        _check_pinned(pairs)
        launch_runs(pairs, runs, device, num_programs=NUM_PROGRAMS)
    return TransferCount(num_bytes=moved_bytes(pairs, runs), copies=1, calls=1)


def _check_pinned(pairs: Pairs) -> None:
    """A kernel that reads other host memory ends in a fault, and no kernel runs in the process after that."""
    for index, pair in enumerate(pairs):
        if any(tensor.device.type == "cpu" and not tensor.is_pinned() for tensor in pair):
            raise ValueError(f"zero_copy needs page-locked host memory, and plane {index} is not: use pinned=True")

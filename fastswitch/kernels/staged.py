"""Gather scattered blocks into a buffer on the device, then move the buffer in few large copies; or the way back.

The link sees the host's side of a job alone: blocks are put in the order of their host addresses, so what is
contiguous on the host is one copy however scattered it is on the device; where the pools differ in order the kernel
transposes.

Paper: none of this; FastSwitch (arXiv 2411.18424) keeps blocks contiguous instead. Other engines stage pages so.
Ours:  pieces of a bounded size through two buffers, so that the kernel works on one while the other crosses the link.
Layouts: a buffer is ``[num_planes, blocks, plane_numel]`` in the order of the host's planes.
Invariants:
1. At most two buffers of `STAGE_BYTES` (or of one block, if that is larger) are held, and they are free when the
   copies are.
2. A buffer is filled again only after what was in it has left.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fastswitch.kernels._copy_kernel import launch_runs
from fastswitch.kernels._double_buffer import NUM_BUFFERS, double_buffer
from fastswitch.kernels._memcpy import copy_each, current_stream, list_copies, slice_copies
from fastswitch.kernels._plain_copy import empty
from fastswitch.kernels._planes import (
    Pairs,
    Planes,
    TransferCount,
    check_transfer,
    merge_adjacent,
    moved_bytes,
    pair_planes,
    split_runs,
)
from fastswitch.kernels._triton import kernel_device
from fastswitch.kernels.block_copy import copy_blocks

__all__ = ["staged"]

# Bytes of a piece: at 55 GB/s it crosses in 0.6 ms, in which launches and events of some 10 us each disappear, and the
# first gather, which nothing hides, is some 20 us. Not measured: it has never run on a GPU.
STAGE_BYTES = 32 << 20


def staged(
    src_planes: Planes, dst_planes: Planes, runs: np.ndarray, *, host_edge_every: int | None = None
) -> TransferCount:
    """One kernel launch a piece and one copy a piece, plane and host range; arguments and errors as `Transfer`.

    The pools may differ in order. On a CPU both steps are numpy's, and the destination counts as the host.

    Args:
        src_planes, dst_planes, runs: as `Transfer`.
        host_edge_every: blocks of a page-locked piece of the host's pool, which no copy may leave: what lies on both
            sides of a multiple is not joined into one copy. None: it is one piece.

    Raises:
        RuntimeError: if a CUDA device takes part and Triton is not installed.
    """
    pairs = check_transfer(src_planes, dst_planes, runs, transposes=True)
    if not len(runs):
        return TransferCount(0, 0, 0)
    device = kernel_device(pairs[0], "staged")
    leaves_host = device is not None and pairs[0][0].device.type == "cpu"
    pieces = list(_cut(pairs, runs, host_edge_every, leaves_host=leaves_host))
    host_planes = src_planes if leaves_host else dst_planes
    stages = [_Stage.through(src_planes, dst_planes, buffer) for buffer in _buffers(host_planes, pieces, device)]
    if device is None:
        _stage_on_host(stages[0], pieces)
    else:
        _stage_on_device(stages, pieces, device, leaves_host=leaves_host)
    memcpys = len(host_planes) * sum(len(piece.host) for piece in pieces)
    return TransferCount(moved_bytes(pairs, runs), copies=memcpys, calls=memcpys + len(pieces))


@dataclass(frozen=True, slots=True)
class _Piece:
    """What goes through a buffer at once.

    Attributes:
        num_blocks: blocks in it.
        device: ``[n, 3]`` runs between the device's pool and the buffer, for the kernel.
        host: ``[m, 3]`` runs between the buffer and the host's pool, for the copies; (src, dst, num_blocks) both.
    """

    num_blocks: int
    device: np.ndarray
    host: np.ndarray


def _cut(pairs: Pairs, runs: np.ndarray, host_edge_every: int | None, *, leaves_host: bool) -> Iterator[_Piece]:
    """Order the runs by host address, cut them into pieces, and join what is contiguous on the host."""
    host_column = 0 if leaves_host else 1
    device_column = 1 - host_column
    block_bytes = sum(src.shape[1:].numel() * src.element_size() for src, _ in pairs)
    most_blocks = max(1, STAGE_BYTES // block_bytes)
    rows = split_runs(runs[np.argsort(runs[:, host_column], kind="stable")].astype(np.int64), most_blocks)
    positions = np.cumsum(rows[:, 2]) - rows[:, 2]
    for first in range(0, int(rows[:, 2].sum()), most_blocks):
        mine = (positions >= first) & (positions < first + most_blocks)
        of_piece, position = rows[mine], positions[mine] - first
        starts, lengths = merge_adjacent(of_piece[:, host_column], of_piece[:, 2], host_edge_every)
        staged_at = np.cumsum(lengths) - lengths
        device = [of_piece[:, device_column], position]
        host = [starts, staged_at]
        if leaves_host:  # from the host into the buffer, from the buffer into the device's pool
            device.reverse()
        else:
            host.reverse()
        yield _Piece(
            int(lengths.sum()), np.stack([*device, of_piece[:, 2]], axis=1), np.stack([*host, lengths], axis=1)
        )


@dataclass(frozen=True, slots=True)
class _Stage:
    """One buffer, seen from both of its sides.

    Attributes:
        into: what fills it: pairs of a pool's planes and the buffer's.
        out_of: what empties it. On the host's side both tensors of a pair are contiguous, for plain copies; on the
            device's they are strided where the pools differ in order.
    """

    into: Pairs
    out_of: Pairs

    @classmethod
    def through(cls, src_planes: Planes, dst_planes: Planes, buffer: Planes) -> _Stage:
        return cls(pair_planes(src_planes, buffer, transposes=True), pair_planes(buffer, dst_planes, transposes=True))


def _buffers(host_planes: Planes, pieces: list[_Piece], device: torch.device | None) -> list[Planes]:
    """Room for the largest piece, in the order of the host's planes: on a device twice, if there are two pieces."""
    sample = host_planes[0]
    shape = (len(host_planes), max(piece.num_blocks for piece in pieces), sample.shape[1])
    if device is None:
        return [empty(shape, sample.dtype).unbind(0)]
    return [torch.empty(shape, dtype=sample.dtype, device=device).unbind(0) for _ in pieces[:NUM_BUFFERS]]


def _stage_on_host(stage: _Stage, pieces: list[_Piece]) -> None:
    for piece in pieces:
        sources, planes = (tuple(side) for side in zip(*stage.into, strict=True))
        copy_blocks(sources, planes, piece.device)
        slice_copies(stage.out_of, piece.host)


def _stage_on_device(stages: list[_Stage], pieces: list[_Piece], device: torch.device, *, leaves_host: bool) -> None:
    """Over the link on the current stream; between pool and buffers on a stream of its own, with few small launches."""
    link = torch.cuda.current_stream(device)
    kernels = _kernel_stream(device, link.cuda_stream)
    handle = current_stream(device)

    def cross(index: int) -> None:
        stage = stages[index % NUM_BUFFERS]
        copy_each(list_copies(stage.into if leaves_host else stage.out_of, pieces[index].host), handle)

    def arrange(index: int) -> None:
        stage = stages[index % NUM_BUFFERS]
        with torch.cuda.stream(kernels):
            launch_runs(stage.out_of if leaves_host else stage.into, pieces[index].device, device)

    kernels.wait_stream(link)
    try:
        if leaves_host:
            double_buffer(len(pieces), link, kernels, cross, arrange)
        else:
            double_buffer(len(pieces), kernels, link, arrange, cross)
    finally:
        link.wait_stream(kernels)  # the buffers are the link's: nobody gets their memory before this


@functools.cache
def _kernel_stream(device: torch.device, link: int) -> torch.cuda.Stream:
    """One for each stream that copies; preferred, so that a small launch does not wait behind the model's kernels."""
    del link
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

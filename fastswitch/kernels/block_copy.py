"""Copy KV blocks by id: gather them, scatter them, or move them between two pools, whatever the layout of either.

Layouts: a tensor whose dim 0 is the block, ``[num_blocks, *block_shape]`` with any strides; a layer-major pool is a
permuted view, nothing is made contiguous. Or a tuple of such tensors, a foreign engine's layers: it stands for their
stack on dim 1, ``[num_blocks, num_layers, *layer_shape]``, which its memory cannot be.

Paper: none of this; what we know of FastSwitch (arXiv 2411.18424) moves contiguous groups by plain copies.
Ours:  one kernel over a table of pieces (`PieceTable`) for every layout, and integer words in place of floats.
Backends: CUDA tensors run the Triton kernel, CPU tensors numpy's indexing (one call a tensor, which lets go of the
GIL); with ``TRITON_INTERPRET=1`` set before the import, CPU tensors run the Triton kernel, for tests. Without
Triton installed CUDA tensors are indexed by torch.
Invariants:
1. The bytes arrive as they are, NaN payloads included; no other block is written.
2. Nothing here waits for a device: work is enqueued on the current stream and the caller synchronises.
"""

from __future__ import annotations

import numpy as np
import torch

from fastswitch.kernels._block_ids import BlockIds, check_disjoint, check_unique, prepare_block_ids
from fastswitch.kernels._blocks import Blocks, as_integers, block_shape, check_blocks, check_match, pair_up
from fastswitch.kernels._copy_kernel import launch_ids
from fastswitch.kernels._triton import INTERPRETED, takes_kernel

__all__ = [
    "copy_blocks",
    "copy_blocks_reference",
    "gather_blocks",
    "gather_blocks_reference",
    "scatter_blocks",
    "scatter_blocks_reference",
]


def gather_blocks_reference(src: Blocks, ids: torch.Tensor) -> torch.Tensor:
    """The specification of `gather_blocks`, in plain indexing."""
    return torch.stack([layer[ids] for layer in src], dim=1) if isinstance(src, tuple) else src[ids]


def scatter_blocks_reference(blocks: torch.Tensor, dst: Blocks, ids: torch.Tensor) -> None:
    """The specification of `scatter_blocks`, in plain indexing."""
    for layer, layer_blocks in zip(dst, blocks.unbind(1), strict=True) if isinstance(dst, tuple) else [(dst, blocks)]:
        layer[ids] = layer_blocks


def copy_blocks_reference(src: Blocks, dst: Blocks, src_ids: torch.Tensor, dst_ids: torch.Tensor) -> None:
    """The specification of `copy_blocks`: a gather and a scatter."""
    scatter_blocks_reference(gather_blocks_reference(src, src_ids), dst, dst_ids)


def gather_blocks(src: Blocks, ids: BlockIds) -> torch.Tensor:
    """Copy the blocks named by ``ids`` into a new contiguous tensor.

    Enqueued on the current stream; the caller synchronises.

    Args:
        src: ``[num_blocks, *block_shape]``, any strides and dtype; or a tuple of such layers.
        ids: ``[n]`` integers, repeats allowed. On the host: checked, then uploaded; on the device: trusted.

    Returns:
        ``[n, *block_shape]``; of a tuple ``[n, num_layers, *layer_shape]``.

    Raises:
        TypeError: if the ids are no integers.
        IndexError: if a host id is outside ``[0, num_blocks)``.
        ValueError: if the ids are not one-dimensional, or the layers differ in shape, dtype or device.
    """
    sample = check_blocks(src, "src")
    ready = prepare_block_ids(ids, sample.shape[0], sample.device, name="block_ids")
    if isinstance(src, torch.Tensor) and src.device.type == "cpu" and not INTERPRETED:
        return _gather_on_host(src, ready)
    blocks = torch.empty((ready.numel(), *block_shape(src)), dtype=sample.dtype, device=sample.device)
    _copy(src, blocks, ready, None)
    return blocks


def scatter_blocks(blocks: torch.Tensor, dst: Blocks, ids: BlockIds) -> None:
    """Write ``blocks[i]`` to block ``ids[i]`` of ``dst``, in place.

    Enqueued on the current stream; the caller synchronises.

    Args:
        blocks: ``[n, *block_shape]``, or ``[n, num_layers, *layer_shape]`` for a tuple; any strides, dtype of ``dst``.
        dst: ``[num_blocks, *block_shape]``, any strides and dtype; or a tuple of such layers.
        ids: ``[n]`` integers, no repeats. On the host: checked, then uploaded; on the device: trusted.

    Raises:
        TypeError: if the ids are no integers, or the dtypes differ.
        IndexError: if a host id is outside ``[0, num_blocks)``.
        ValueError: if a host id repeats, or shapes or devices do not match.
    """
    sample = check_blocks(dst, "dst")
    check_blocks(blocks, "blocks")
    check_match(blocks, dst, "blocks", "dst")
    ready = prepare_block_ids(ids, sample.shape[0], sample.device, name="block_ids")
    check_unique(ids, name="block_ids")
    if blocks.shape[0] != ready.numel():
        raise ValueError(f"blocks and block_ids must have one length, got {blocks.shape[0]} and {ready.numel()}")
    _copy(blocks, dst, None, ready)


def copy_blocks(src: Blocks, dst: Blocks, src_ids: BlockIds, dst_ids: BlockIds) -> None:
    """Write block ``src_ids[i]`` of ``src`` to block ``dst_ids[i]`` of ``dst``, in place.

    Enqueued on the current stream; the caller synchronises. ``src`` and ``dst`` may be one pool if no block is both
    read and written; tensors that overlap in other ways are not looked for.

    Args:
        src: ``[num_src_blocks, *block_shape]``, any strides and dtype; or a tuple of layers.
        dst: ``[num_dst_blocks, *block_shape]``, same dtype and device, other strides allowed; or a tuple of layers.
        src_ids: ``[n]`` integers, repeats allowed. On the host: checked, then uploaded; on the device: trusted.
        dst_ids: ``[n]`` integers, no repeats; as ``src_ids``.

    Raises:
        TypeError: if the ids are no integers, or the dtypes differ.
        IndexError: if a host id is outside its pool.
        ValueError: if a host destination repeats or is a source too, or lengths, shapes or devices do not match.
    """
    src_sample, dst_sample = check_blocks(src, "src"), check_blocks(dst, "dst")
    check_match(src, dst, "src", "dst")
    src_ready = prepare_block_ids(src_ids, src_sample.shape[0], src_sample.device, name="src_ids")
    dst_ready = prepare_block_ids(dst_ids, dst_sample.shape[0], dst_sample.device, name="dst_ids")
    check_unique(dst_ids, name="dst_ids")
    if src_ready.numel() != dst_ready.numel():
        raise ValueError(f"src_ids and dst_ids must have one length, got {src_ready.numel()} and {dst_ready.numel()}")
    if src_sample.data_ptr() == dst_sample.data_ptr():
        check_disjoint(src_ids, dst_ids)
    _copy(src, dst, src_ready, dst_ready)


def _copy(src: Blocks, dst: Blocks, src_ids: torch.Tensor | None, dst_ids: torch.Tensor | None) -> None:
    """Copy between checked blocks; ``None`` in place of ids stands for 0, 1, 2, ..."""
    num_blocks = next(ids.numel() for ids in (src_ids, dst_ids) if ids is not None)
    pairs = pair_up(src, dst)
    if num_blocks == 0 or pairs[0][0][:1].numel() == 0:
        return
    if takes_kernel(pairs[0][0].device):
        launch_ids(pairs, src_ids, dst_ids, num_blocks, pairs[0][0].device)
        return
    for pair_src, pair_dst in pairs:
        _copy_by_indexing(as_integers(pair_src), as_integers(pair_dst), src_ids, dst_ids)


# On the CPU: numpy's indexing, on one core. It scatters at 22 GB/s where `index_copy_` does 7, and gathers into fresh
# memory at 8 to 11 where torch, whose fresh memory is not in huge pages, does 2 to 3. And `index_select` waits for
# a team of threads at every large block: 256 blocks of 256 KiB took 2 s while another process had one of the two cores.
def _gather_on_host(src: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    blocks = np.ascontiguousarray(as_integers(src).numpy()[ids.numpy()])
    return torch.from_numpy(blocks).view(src.dtype)


def _copy_by_indexing(
    src: torch.Tensor, dst: torch.Tensor, src_ids: torch.Tensor | None, dst_ids: torch.Tensor | None
) -> None:
    source, destination = slice(None) if src_ids is None else src_ids, slice(None) if dst_ids is None else dst_ids
    if src.device.type == "cpu":
        dst.numpy()[destination] = src.numpy()[source]
    else:
        dst[destination] = src[source]

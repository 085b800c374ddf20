"""Copy KV blocks by id or by run: gather them, scatter them, or move them between two pools, whatever their layouts.

Layouts: a tensor whose dim 0 is the block, ``[num_blocks, *block_shape]`` with any strides; a layer-major pool is a
permuted view, nothing is made contiguous. Or a tuple of such tensors, a foreign engine's layers: it stands for their
stack on dim 1, ``[num_blocks, num_layers, *layer_shape]``, which its memory cannot be.
What to copy: *ids* ``[n]``, or *runs* ``[n, 3]`` of (src_start, dst_start, num_blocks), which are never expanded.

Paper: none of this; what we know of FastSwitch (arXiv 2411.18424) moves contiguous groups by plain copies.
Ours:  one kernel, in one launch, for every layout (`_copy_kernel`), and integer words in place of floats.
Backends: CUDA tensors run the Triton kernel, CPU tensors numpy (`_plain_copy`); with ``TRITON_INTERPRET=1`` set before
the import, CPU tensors run the Triton kernel, for tests. Without Triton installed CUDA tensors are indexed by torch.
Invariants:
1. The bytes arrive as they are, NaN payloads included; no other block is written.
2. Nothing here waits for a device: work is enqueued on the current stream and the caller synchronises.
3. What the host knows is checked before anything is written: no block is written twice, or both read and written.
"""

from __future__ import annotations

import numpy as np
import torch

from fastswitch.kernels import _plain_copy
from fastswitch.kernels._block_ids import BlockIds, check_unique, read_ids
from fastswitch.kernels._blocks import Blocks, block_shape, check_blocks, check_match, pair_up
from fastswitch.kernels._copy_kernel import launch_ids, launch_runs
from fastswitch.kernels._overlap import check_overlap
from fastswitch.kernels._pieces import PieceTable
from fastswitch.kernels._runs import Runs, are_runs, check_destinations, check_inside, expand_runs, read_runs
from fastswitch.kernels._triton import takes_kernel

__all__ = [
    "copy_blocks",
    "copy_blocks_reference",
    "gather_blocks",
    "gather_blocks_reference",
    "scatter_blocks",
    "scatter_blocks_reference",
]

Ids = np.ndarray | torch.Tensor | None
IDS_OR_RUNS = "block_ids must be ids [n] or runs [n, 3]"


def gather_blocks_reference(src: Blocks, ids: torch.Tensor | Runs) -> torch.Tensor:
    """The specification of `gather_blocks`, in plain indexing."""
    if ids.ndim == 2:
        src_ids, positions = expand_runs(ids)
        ids = torch.from_numpy(src_ids[np.argsort(positions)])
    return torch.stack([layer[ids] for layer in src], dim=1) if isinstance(src, tuple) else src[ids]


def scatter_blocks_reference(blocks: torch.Tensor, dst: Blocks, ids: torch.Tensor | Runs) -> None:
    """The specification of `scatter_blocks`, in plain indexing."""
    if ids.ndim == 2:
        positions, ids = map(torch.from_numpy, expand_runs(ids))
        blocks = blocks[positions]
    for layer, layer_blocks in zip(dst, blocks.unbind(1), strict=True) if isinstance(dst, tuple) else [(dst, blocks)]:
        layer[ids] = layer_blocks


def copy_blocks_reference(
    src: Blocks, dst: Blocks, src_ids: torch.Tensor | Runs, dst_ids: torch.Tensor | None = None
) -> None:
    """The specification of `copy_blocks`: a gather and a scatter."""
    if dst_ids is None:
        src_ids, dst_ids = map(torch.from_numpy, expand_runs(src_ids))
    scatter_blocks_reference(gather_blocks_reference(src, src_ids), dst, dst_ids)


def gather_blocks(src: Blocks, ids: BlockIds | Runs, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """Copy the blocks named by ``ids`` into a new contiguous tensor, or to the front of ``out``.

    Enqueued on the current stream; the caller synchronises.

    Args:
        src: ``[num_blocks, *block_shape]``, any strides and dtype; or a tuple of such layers.
        ids: ``[n]`` integers, repeats allowed; on the host: checked, then uploaded; on the device: trusted. Or
            ``[n, 3]`` runs on the host, whose dst_start is the position in the result: together they fill it.
        out: ``[at least n, *block_shape]``, any strides; dtype and device of ``src``.

    Returns:
        ``[n, *block_shape]``; of a tuple ``[n, num_layers, *layer_shape]``. With ``out`` the blocks of it that were
        written.

    Raises:
        TypeError: if ids or runs are no integers, runs are on a device, or dtypes differ.
        IndexError: if a host id or a run is outside ``[0, num_blocks)``, or a run leaves the result.
        ValueError: if runs overlap in the result or are empty, shapes or devices do not match, ``out`` is too small, or
            shares blocks that are read.
    """
    sample = check_blocks(src, "src")
    if are_runs(ids):
        runs = read_runs(ids, rule=IDS_OR_RUNS)
        num_blocks = int(runs[:, 2].sum())
        # Disjoint, and inside of as many blocks as they have: so they fill the result.
        _check_places(runs, sample.shape[0], num_blocks, names=("src", "the result"))
        blocks = _result(src, num_blocks, out)
        _copy_runs(src, blocks, runs, names=("src", "out"))
    else:
        ready = read_ids(ids, sample.shape[0], sample.device, name="block_ids")
        blocks = _result(src, len(ready), out)
        _copy_ids(src, blocks, ready, None, names=("src", "out"))
    return blocks


def scatter_blocks(blocks: torch.Tensor, dst: Blocks, ids: BlockIds | Runs) -> None:
    """Write ``blocks[i]`` to block ``ids[i]`` of ``dst``, in place.

    Enqueued on the current stream; the caller synchronises.

    Args:
        blocks: ``[n, *block_shape]``, or ``[n, num_layers, *layer_shape]`` for a tuple; any strides, dtype of ``dst``.
        dst: ``[num_blocks, *block_shape]``, any strides and dtype; or a tuple of such layers. Memory that several of
            its blocks share is not looked for.
        ids: ``[n]`` integers, no repeats; on the host: checked, then uploaded; on the device: trusted. Or
            ``[n, 3]`` runs on the host, whose src_start is the position in ``blocks``.

    Raises:
        TypeError: if ids or runs are no integers, runs are on a device, ``blocks`` is no tensor, or dtypes differ.
        IndexError: if a host id or a run is outside ``[0, num_blocks)``, or a run leaves ``blocks``.
        ValueError: if a host id repeats, runs overlap in ``dst`` or are empty, shapes or devices do not match, or a
            block is both read and written.
    """
    sample = check_blocks(dst, "dst")
    if not isinstance(blocks, torch.Tensor):
        raise TypeError(f"blocks must be a tensor, got {type(blocks).__name__}")
    check_blocks(blocks, "blocks")
    check_match(blocks, dst, "blocks", "dst")
    if are_runs(ids):
        runs = read_runs(ids, rule=IDS_OR_RUNS)
        _check_places(runs, len(blocks), sample.shape[0], names=("blocks", "dst"))
        _copy_runs(blocks, dst, runs, names=("blocks", "dst"))
        return
    ready = read_ids(ids, sample.shape[0], sample.device, name="block_ids")
    check_unique(ready, name="block_ids")
    if len(blocks) != len(ready):
        raise ValueError(f"blocks and block_ids must have one length, got {len(blocks)} and {len(ready)}")
    _copy_ids(blocks, dst, None, ready, names=("blocks", "dst"))


def copy_blocks(src: Blocks, dst: Blocks, src_ids: BlockIds | Runs, dst_ids: BlockIds | None = None) -> None:
    """Write block ``src_ids[i]`` of ``src`` to block ``dst_ids[i]`` of ``dst``, in place; or copy runs of blocks.

    Enqueued on the current stream; the caller synchronises. ``src`` and ``dst`` may share memory block by block, as one
    pool and a slice of it do, if no block is both read and written.

    Args:
        src: ``[num_src_blocks, *block_shape]``, any strides and dtype; or a tuple of layers.
        dst: ``[num_dst_blocks, *block_shape]``, same dtype and device, other strides allowed; or a tuple of layers.
            Memory that several of its blocks share is not looked for.
        src_ids: ``[n]`` integers, repeats allowed; on the host: checked, then uploaded; on the device: trusted. Or, and
            then without ``dst_ids``, ``[n, 3]`` runs on the host.
        dst_ids: ``[n]`` integers, no repeats; as ``src_ids``.

    Raises:
        TypeError: if ids or runs are no integers, runs are on a device, or dtypes differ.
        IndexError: if a host id or a run is outside its pool.
        ValueError: if a host destination repeats, a block is both read and written, a run is empty, or lengths, shapes
            or devices do not match.
    """
    src_sample, dst_sample = check_blocks(src, "src"), check_blocks(dst, "dst")
    check_match(src, dst, "src", "dst")
    if dst_ids is None:
        runs = read_runs(src_ids, rule="without dst_ids, src_ids must be runs [n, 3]")
        _check_places(runs, src_sample.shape[0], dst_sample.shape[0], names=("src", "dst"))
        _copy_runs(src, dst, runs, names=("src", "dst"))
        return
    read = read_ids(src_ids, src_sample.shape[0], src_sample.device, name="src_ids")
    written = read_ids(dst_ids, dst_sample.shape[0], dst_sample.device, name="dst_ids")
    check_unique(written, name="dst_ids")
    if len(read) != len(written):
        raise ValueError(f"src_ids and dst_ids must have one length, got {len(read)} and {len(written)}")
    _copy_ids(src, dst, read, written, names=("src", "dst"))


def _check_places(runs: np.ndarray, num_src: int, num_dst: int, *, names: tuple[str, str]) -> None:
    check_inside(runs[:, 0], runs[:, 2], num_src, name=names[0])
    check_inside(runs[:, 1], runs[:, 2], num_dst, name=names[1])
    check_destinations(runs)


def _result(src: Blocks, num_blocks: int, out: torch.Tensor | None) -> torch.Tensor:
    """New memory for the blocks, or those of ``out`` that will be written."""
    if out is None:
        sample = src[0] if isinstance(src, tuple) else src
        shape = (num_blocks, *block_shape(src))
        on_host = sample.device.type == "cpu"
        return _plain_copy.empty(shape, sample.dtype) if on_host else sample.new_empty(shape)
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a tensor, got {type(out).__name__}")
    check_blocks(out, "out")
    check_match(src, out, "src", "out")
    if len(out) < num_blocks:
        raise ValueError(f"out must hold {num_blocks} blocks, got {len(out)}")
    return out[:num_blocks]


def _copy_ids(src: Blocks, dst: Blocks, src_ids: Ids, dst_ids: Ids, *, names: tuple[str, str]) -> None:
    """Copy between checked blocks; ``None`` in place of ids stands for 0, 1, 2, ..."""
    num_blocks = next(len(ids) for ids in (src_ids, dst_ids) if ids is not None)
    pairs = pair_up(src, dst)
    if num_blocks == 0 or pairs[0][0][:1].numel() == 0:
        return
    table = PieceTable.build(pairs)
    check_overlap(table, _lengths(pairs), src_ids, dst_ids, 1, names=names)
    device = pairs[0][0].device
    if takes_kernel(device):
        launch_ids(table, src_ids, dst_ids, num_blocks, device)
    else:
        for pair in pairs:
            _plain_copy.copy_ids(*pair, src_ids, dst_ids)


def _copy_runs(src: Blocks, dst: Blocks, runs: np.ndarray, *, names: tuple[str, str]) -> None:
    """Copy runs between checked blocks."""
    pairs = pair_up(src, dst)
    if len(runs) == 0 or pairs[0][0][:1].numel() == 0:
        return
    table = PieceTable.build(pairs)
    check_overlap(table, _lengths(pairs), *runs.T, names=names)
    device = pairs[0][0].device
    if takes_kernel(device):
        launch_runs(table, runs, device)
    else:
        for pair in pairs:
            _plain_copy.copy_runs(*pair, runs)


def _lengths(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[int, int]:
    """Blocks of the source and of the destination, in every pair."""
    return len(pairs[0][0]), len(pairs[0][1])

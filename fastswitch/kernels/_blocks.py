"""What counts as blocks: one tensor whose dim 0 is the block, or a tuple of them, a foreign engine's layers.

A tuple of ``[num_blocks, *layer_shape]`` stands for its stack on dim 1, ``[num_blocks, num_layers, *layer_shape]``, so
that layers in separate allocations and one pool copy to each other. Every copy is then a list of tensor pairs.

Ours:  the rule that a tuple is its stack.
Invariant: the tensors of a pair have one shape (but for dim 0), dtype and device, and are the caller's memory.
"""

from __future__ import annotations

import torch

__all__ = ["Blocks", "as_integers", "block_shape", "check_blocks", "check_match", "pair_up"]

Blocks = torch.Tensor | tuple[torch.Tensor, ...]


def check_blocks(blocks: Blocks, name: str) -> torch.Tensor:
    """Check that ``blocks`` are one tensor or equal layers, and return the tensor that speaks for all.

    Raises:
        TypeError: if it is neither a tensor nor a tuple of tensors.
        ValueError: if a tuple is empty, a tensor has no dim 0, or the layers differ in shape, dtype or device.
    """
    layers = blocks if isinstance(blocks, tuple) else (blocks,)
    if not all(isinstance(layer, torch.Tensor) for layer in layers):
        raise TypeError(f"{name} must be a tensor or a tuple of tensors, got {type(blocks).__name__}")
    if not layers or any(layer.dim() == 0 for layer in layers):
        raise ValueError(f"{name} must have blocks on dim 0, got {'an empty tuple' if not layers else 'a scalar'}")
    kinds = {(tuple(layer.shape), layer.dtype, layer.device) for layer in layers}
    if len(kinds) > 1:
        raise ValueError(f"layers of {name} must have one shape, dtype and device, got {len(kinds)} kinds")
    return layers[0]


def block_shape(blocks: Blocks) -> tuple[int, ...]:
    """The shape of one block, layers included."""
    if isinstance(blocks, tuple):
        return (len(blocks), *blocks[0].shape[1:])
    return tuple(blocks.shape[1:])


def check_match(src: Blocks, dst: Blocks, src_name: str, dst_name: str) -> None:
    """Check that blocks of ``src`` can be copied into ``dst`` byte by byte; both were checked alone before.

    Raises:
        TypeError: if the dtypes differ.
        ValueError: if the block shapes or the devices differ.
    """
    both = f"{src_name} and {dst_name}"
    src_sample = src[0] if isinstance(src, tuple) else src
    dst_sample = dst[0] if isinstance(dst, tuple) else dst
    if src_sample.dtype != dst_sample.dtype:
        raise TypeError(f"{both} must have one dtype, got {src_sample.dtype} and {dst_sample.dtype}")
    if block_shape(src) != block_shape(dst):
        raise ValueError(f"{both} must have one block shape, got {block_shape(src)} and {block_shape(dst)}")
    if src_sample.device != dst_sample.device:
        raise ValueError(f"{both} must be on one device, got {src_sample.device} and {dst_sample.device}")


def pair_up(src: Blocks, dst: Blocks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The tensor pairs whose block-wise copies make up a copy from ``src`` to ``dst``."""
    if isinstance(src, torch.Tensor) and isinstance(dst, torch.Tensor):
        return [(src, dst)]
    return list(zip(_layers(src), _layers(dst), strict=True))


def as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers of the same size: torch lacks copies of float8, numpy does not know bfloat16."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(integers.get(tensor.element_size(), tensor.dtype))


def _layers(blocks: Blocks) -> tuple[torch.Tensor, ...]:
    return blocks if isinstance(blocks, tuple) else blocks.unbind(1)

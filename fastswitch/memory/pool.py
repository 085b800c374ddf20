"""The memory of one tier: the tensors that hold the KV of a pool's blocks. The only file here that needs torch.

A pool is seen three ways, all views of one memory: ``planes`` for copying (contiguous tensors whose dim 0 is the
block), ``k(layer)`` and ``v(layer)`` for attention, ``blocks`` for comparing whole blocks.

Paper: FastSwitch (arXiv 2411.18424) uses vLLM's tensors, one per layer; `KVPool.wrap` takes these.
Ours:  two orders (see `layout`); memory is not cleared, since unwritten slots must never be read.
Invariant: nothing here copies: a write through one view is seen through all the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from fastswitch.memory.layout import KVLayout

__all__ = ["KVPool"]

_POISON = 0xFF  # as every byte of an element it is NaN in each float type, and -1 or the maximum in each integer type


class KVPool:
    """The KV of ``num_blocks`` blocks, on one device.

    Args:
        layout: shape, type and order of a block.
        num_blocks: blocks in the pool.
        device: where the memory lies.
        pinned: page-lock the host memory, so that a CUDA device copies it asynchronously. Costs about 0.1 s/GB.

    Raises:
        ValueError: if ``num_blocks`` is not positive, or a pinned pool is not on the CPU.
        RuntimeError: if ``pinned`` and there is no CUDA device.
    """

    def __init__(
        self,
        layout: KVLayout,
        num_blocks: int,
        device: torch.device | str = "cpu",
        pinned: bool = False,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, got {num_blocks}")
        per_token = (layout.block_size, layout.num_kv_heads, layout.head_dim)
        block_major = layout.order == "block_major"
        shape = (num_blocks, layout.num_layers, 2) if block_major else (layout.num_layers, 2, num_blocks)
        storage = _empty((*shape, *per_token), getattr(torch, layout.dtype), torch.device(device), pinned=pinned)
        blocks = storage if block_major else storage.permute(2, 0, 1, 3, 4, 5)
        sides = blocks.flatten(1, 2).unbind(1) if block_major else storage.flatten(0, 1).unbind(0)
        planes = (storage.flatten(1),) if block_major else tuple(side.flatten(1) for side in sides)
        self._adopt(layout, planes, tuple(sides), blocks, pinned)

    def _adopt(
        self,
        layout: KVLayout,
        planes: tuple[torch.Tensor, ...],
        sides: tuple[torch.Tensor, ...],
        blocks: torch.Tensor | None,
        pinned: bool,
    ) -> None:
        """Set the views; ``sides`` are layer 0 K, layer 0 V, layer 1 K, ..."""
        self._layout, self._planes, self._sides = layout, planes, sides
        self._blocks, self._pinned = blocks, pinned

    @classmethod
    def wrap(cls, tensors: Sequence[torch.Tensor]) -> KVPool:
        """Adopt a foreign engine's KV cache; nothing is copied, and the pool owns nothing.

        The layout is read off the tensors: layer-major, with their number, shape and dtype.

        Args:
            tensors: one per layer, ``[2, num_blocks, block_size, num_kv_heads, head_dim]`` (vLLM: K, then V), all of
                one shape, dtype and device; ``tensor[0]`` and ``tensor[1]`` contiguous.

        Raises:
            ValueError: if there are none, or one has another shape, dtype or device, or is not contiguous.
        """
        if not tensors:
            raise ValueError("tensors must not be empty")
        first = tensors[0]
        for layer, tensor in enumerate(tensors):
            _check_foreign(layer, tensor, first)
        _, _, block_size, num_kv_heads, head_dim = first.shape
        dtype = str(first.dtype).removeprefix("torch.")
        layout = KVLayout(len(tensors), num_kv_heads, head_dim, block_size, dtype, "layer_major")
        sides = tuple(side for tensor in tensors for side in tensor.unbind(0))
        planes = tuple(side.view(len(side), -1) for side in sides)
        pool = cls.__new__(cls)
        cls._adopt(pool, layout, planes, sides, None, torch.cuda.is_available() and first.is_pinned())
        return pool

    @property
    def layout(self) -> KVLayout:
        """Shape, type and order of a block."""
        return self._layout

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return len(self._planes[0])

    @property
    def device(self) -> torch.device:
        """Where the memory lies."""
        return self._planes[0].device

    @property
    def pinned(self) -> bool:
        """Whether the memory is page-locked host memory."""
        return self._pinned

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return self.num_blocks * self._layout.block_bytes

    @property
    def planes(self) -> tuple[torch.Tensor, ...]:
        """The memory as contiguous tensors ``[num_blocks, plane_numel]``, for copying.

        One in block-major order; else ``2 * num_layers``: layer 0 K, layer 0 V, layer 1 K, ...
        """
        return self._planes

    @property
    def blocks(self) -> torch.Tensor:
        """A view ``[num_blocks, num_layers, 2, block_size, num_kv_heads, head_dim]``, strided in layer-major order.

        Raises:
            ValueError: if the pool wraps foreign tensors, which are not one memory.
        """
        if self._blocks is None:
            raise ValueError("a wrapped pool has no single view of its blocks; use planes")
        return self._blocks

    def k(self, layer: int) -> torch.Tensor:
        """A view of a layer's keys: ``[num_blocks, block_size, num_kv_heads, head_dim]``, strided in block-major order.

        Raises:
            IndexError: if there is no such layer.
        """
        return self._sides[2 * self._checked(layer)]

    def v(self, layer: int) -> torch.Tensor:
        """A view of a layer's values, shaped as `k`.

        Raises:
            IndexError: if there is no such layer.
        """
        return self._sides[2 * self._checked(layer) + 1]

    def fill(self, block_ids: ArrayLike | torch.Tensor, value: float) -> None:
        """Write ``value``, rounded to the pool's dtype, to every element of these blocks. For tests and checks.

        Enqueued on the current stream; ids are read on the host.

        Args:
            block_ids: ``[n]`` integers.
            value: what to write.

        Raises:
            IndexError: if an id is outside ``[0, num_blocks)``.
        """
        # As bytes, because torch indexes no 8-bit floats.
        element = torch.tensor([value], dtype=torch.float64).to(self._planes[0].dtype).view(torch.uint8)
        self._fill_bytes(block_ids, element)

    def poison(self, block_ids: ArrayLike | torch.Tensor) -> None:
        """Write bytes of 0xFF to these blocks: NaN in every float type, -1 or the maximum in an integer type.

        Enqueued on the current stream; ids are read on the host.

        Args:
            block_ids: ``[n]`` integers.

        Raises:
            IndexError: if an id is outside ``[0, num_blocks)``.
        """
        self._fill_bytes(block_ids, torch.full((1,), _POISON, dtype=torch.uint8))

    def _fill_bytes(self, block_ids: ArrayLike | torch.Tensor, pattern: torch.Tensor) -> None:
        """Repeat ``pattern``, uint8 ``[n]``, over these blocks."""
        ids = np.asarray(block_ids.cpu() if isinstance(block_ids, torch.Tensor) else block_ids).astype(np.int64)
        outside = ids[(ids < 0) | (ids >= self.num_blocks)]
        if outside.size:
            raise IndexError(f"block_ids must be in [0, {self.num_blocks}), got {outside[0]}")
        rows = torch.from_numpy(ids).to(self.device)
        for plane in self._planes:
            as_bytes = plane.view(torch.uint8)
            as_bytes[rows] = pattern.to(self.device).repeat(as_bytes.shape[1] // len(pattern))

    def _checked(self, layer: int) -> int:
        if not 0 <= layer < self._layout.num_layers:
            raise IndexError(f"layer must be in [0, {self._layout.num_layers}), got {layer}")
        return layer


def _check_foreign(layer: int, tensor: torch.Tensor, first: torch.Tensor) -> None:
    """Refuse a foreign tensor that is not ``[2, num_blocks, ...]`` with contiguous halves, or unlike the first."""
    shape = list(tensor.shape)
    if len(shape) != 5 or shape[0] != 2:
        wanted = "[2, num_blocks, block_size, num_kv_heads, head_dim]"
        raise ValueError(f"the tensor of layer {layer} must be {wanted}, got shape {shape}")
    mine = {"shape": shape, "dtype": tensor.dtype, "device": tensor.device}
    for name, expected in {"shape": list(first.shape), "dtype": first.dtype, "device": first.device}.items():
        if mine[name] != expected:
            raise ValueError(f"the tensor of layer {layer} must have {name} {expected} as layer 0, got {mine[name]}")
    if not (tensor[0].is_contiguous() and tensor[1].is_contiguous()):
        raise ValueError(f"the K and the V of layer {layer} must be contiguous, got strides {tensor.stride()}")


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, pinned: bool) -> torch.Tensor:
    if not pinned:
        return torch.empty(shape, dtype=dtype, device=device)
    if device.type != "cpu":
        raise ValueError(f"a pinned pool lies on the cpu, got device {device}")
    if not torch.cuda.is_available():
        raise RuntimeError("pinned memory needs a CUDA device; use pinned=False")
    # torch rounds page-locked memory up to a power of two.
    return torch.empty(shape, dtype=dtype, pin_memory=True)

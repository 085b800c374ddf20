"""The memory of one tier: the tensors that hold the KV of a pool's blocks. The only file here that needs torch.

A pool is seen in several ways, all views of one memory: ``planes`` for copying runs (contiguous tensors whose dim 0 is
the block), ``layers`` for copying blocks, ``k(layer)`` and ``v(layer)`` for attention, ``blocks`` for comparing.

Paper: FastSwitch (arXiv 2411.18424) uses vLLM's tensors, one per layer; `KVPool.wrap` takes these.
Ours:  two orders (see `layout`); memory is not cleared, since unwritten slots must never be read; page-locked memory
       comes in pieces (see `pinned`, `pieces`).
Invariant: nothing here copies: a write through one view is seen through all the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from fastswitch.memory.cuda_registrar import CudaRegistrar
from fastswitch.memory.layout import KVLayout
from fastswitch.memory.pieces import MAX_PIECE_BYTES, PieceMap
from fastswitch.memory.pinned import HostRegistrar, pinned_memory

__all__ = ["KVPool"]

_Layers = tuple[torch.Tensor, ...]  # each [num_blocks, 2, block_size, num_kv_heads, head_dim]
_POISON = 0xFF  # as every byte of an element it is NaN in each float type, and -1 or the maximum in each integer type


class KVPool:
    """The KV of ``num_blocks`` blocks, on one device.

    Args:
        layout: shape, type and order of a block.
        num_blocks: blocks in the pool.
        device: where the memory lies.
        pinned: page-lock the host memory, so that a CUDA device copies it asynchronously and its kernels can read and
            write it. Costs about 0.1 s/GB; drop the last view of it when no copy of it is under way.

    Raises:
        ValueError: if ``num_blocks`` is not positive, or a pinned pool is not on the CPU.
        RuntimeError: if ``pinned`` and there is no CUDA device, or the memory cannot be page-locked.
    """

    def __init__(
        self, layout: KVLayout, num_blocks: int, device: torch.device | str = "cpu", pinned: bool = False
    ) -> None:
        if pinned:
            self._page_lock(layout, num_blocks, _cuda_registrar(device), MAX_PIECE_BYTES)
        else:
            memory = torch.empty(layout.pool_shape(num_blocks), dtype=getattr(torch, layout.dtype), device=device)
            self._adopt(layout, memory, False, None)

    @classmethod
    def pinned_by(
        cls, registrar: HostRegistrar, layout: KVLayout, num_blocks: int, *, max_piece_bytes: int = MAX_PIECE_BYTES
    ) -> KVPool:
        """A pool in host memory that ``registrar`` page-locks: for a device that is not torch's CUDA, and for tests.

        Locks at most ``max_piece_bytes`` in one call, or what `PieceMap` needs for one piece. Errors as the class.
        """
        pool = cls.__new__(cls)
        cls._page_lock(pool, layout, num_blocks, registrar, max_piece_bytes)
        return pool

    def _page_lock(self, layout: KVLayout, num_blocks: int, registrar: HostRegistrar, max_piece_bytes: int) -> None:
        shape, dtype = layout.pool_shape(num_blocks), getattr(torch, layout.dtype)
        pieces = PieceMap(layout.pieces_per_block, num_blocks, layout.piece_bytes, max_piece_bytes)
        padded = torch.from_numpy(pinned_memory(pieces.piece_bytes, registrar)).view(-1, pieces.plane_bytes)
        memory = padded[:, : num_blocks * layout.piece_bytes].view(dtype).view(shape)
        self._adopt(layout, memory, True, pieces.blocks_per_piece)

    def _adopt(
        self, layout: KVLayout, memory: torch.Tensor | _Layers, pinned: bool, blocks_per_piece: int | None
    ) -> None:
        """Set the views of a memory of `KVLayout.pool_shape`, planes padded or not, or of foreign layers."""
        self._layout, self._pinned, self._blocks_per_piece = layout, pinned, blocks_per_piece
        block_major = layout.order == "block_major"
        if isinstance(memory, tuple):
            self._blocks, self._layers = None, memory
        else:
            self._blocks = memory if block_major else memory.permute(2, 0, 1, 3, 4, 5)
            self._layers = self._blocks.unbind(1)
        # layer 0 K, layer 0 V, layer 1 K, ...
        self._sides = tuple(side for layer in self._layers for side in layer.unbind(1))
        planes = (self._blocks,) if self._blocks is not None and block_major else self._sides
        self._planes = tuple(plane.flatten(1) for plane in planes)

    @classmethod
    def wrap(cls, tensors: Sequence[torch.Tensor]) -> KVPool:
        """Adopt a foreign engine's KV cache, layer-major; nothing is copied, and the pool owns nothing.

        Args:
            tensors: one per layer, ``[2, num_blocks, block_size, num_kv_heads, head_dim]`` (vLLM: K, then V), all of
                one shape, dtype and device; ``tensor[0]`` and ``tensor[1]`` contiguous.

        Raises:
            ValueError: if there are none, or one has another shape, dtype or device, or is not contiguous; or two of
                them, or the K and the V of one, are the same memory.
            TypeError: if it is no list, or one is no tensor.
        """
        if isinstance(tensors, torch.Tensor):
            raise TypeError(f"tensors must be a list, one per layer, got one of shape {list(tensors.shape)}: unbind it")
        if not len(tensors):
            raise ValueError("tensors must not be empty")
        first = tensors[0]
        for layer, tensor in enumerate(tensors):
            _check_foreign(layer, tensor, first)
        _check_apart(tensors)
        _, _, block_size, num_kv_heads, head_dim = first.shape
        dtype = str(first.dtype).removeprefix("torch.")
        layout = KVLayout(len(tensors), num_kv_heads, head_dim, block_size, dtype, "layer_major")
        pool = cls.__new__(cls)
        layers = tuple(tensor.transpose(0, 1) for tensor in tensors)
        cls._adopt(pool, layout, layers, torch.cuda.is_available() and first.is_pinned(), None)
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
    def blocks_per_piece(self) -> int | None:
        """A copy must not cross a multiple of this many blocks (`cut_runs`): there another page-locked piece begins.

        None where memory is not page-locked, or every plane is one piece, or foreign tensors are wrapped.
        """
        return self._blocks_per_piece

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
    def layers(self) -> tuple[torch.Tensor, ...]:
        """A view a layer, ``[num_blocks, 2, block_size, num_kv_heads, head_dim]``: K, then V; strided.

        As a tuple they are blocks to ``fastswitch.kernels.copy_blocks`` and its kin, of a wrapped pool too.
        """
        return self._layers

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
            value: a number.

        Raises:
            IndexError: if an id is outside ``[0, num_blocks)``; nothing is written.
        """
        # As bytes, because torch indexes no 8-bit floats.
        element = torch.tensor([value], dtype=torch.float64).to(self._planes[0].dtype).view(torch.uint8)
        self._fill_bytes(block_ids, element)

    def poison(self, block_ids: ArrayLike | torch.Tensor) -> None:
        """Write bytes of 0xFF to these blocks: NaN in every float type, -1 or the maximum in an integer type.

        Stream, arguments and errors as `fill`.
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
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"what is given for layer {layer} must be a torch tensor, got {type(tensor).__name__}")
    shape = list(tensor.shape)
    if len(shape) != 5 or shape[0] != 2 or 0 in shape:
        wanted = "[2, num_blocks, block_size, num_kv_heads, head_dim]"
        raise ValueError(f"the tensor of layer {layer} must be {wanted}, got shape {shape}")
    mine = {"shape": shape, "dtype": tensor.dtype, "device": tensor.device}
    for name, expected in {"shape": list(first.shape), "dtype": first.dtype, "device": first.device}.items():
        if mine[name] != expected:
            raise ValueError(f"the tensor of layer {layer} must have {name} {expected} as layer 0, got {mine[name]}")
    if not (tensor[0].is_contiguous() and tensor[1].is_contiguous()):
        raise ValueError(
            f"the K and the V of layer {layer} must be contiguous, got strides {tensor.stride()}: "
            "fastswitch.kernels.copy_blocks takes caches in other orders"
        )


def _check_apart(tensors: Sequence[torch.Tensor]) -> None:
    """Refuse memory that is given twice: a swap would write one layer over another."""
    layer_at: dict[int, int] = {}
    for layer, tensor in enumerate(tensors):
        for side in tensor:
            other = layer_at.setdefault(side.data_ptr(), layer)
            if other != layer or tensor[0].data_ptr() == tensor[1].data_ptr():
                raise ValueError(f"layers need a memory each, K and V too: those of {other} and {layer} are one")


def _cuda_registrar(device: torch.device | str) -> CudaRegistrar:
    if torch.device(device).type != "cpu":
        raise ValueError(f"a pinned pool lies on the cpu, got device {device}")
    if not torch.cuda.is_available():
        raise RuntimeError("pinned memory needs a CUDA device; use pinned=False")
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    return CudaRegistrar(cudart, take_error=lambda: torch.ones((), device="cuda"))

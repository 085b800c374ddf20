"""How the KV of one block lies in memory, and how many bytes that is.

Two orders. ``block_major`` keeps all layers' K and V of a block in one contiguous piece, so a group of blocks is one
copy. ``layer_major`` is what vLLM 0.3 uses: one tensor per layer, so a block is ``2 * num_layers`` pieces.

Paper: FastSwitch (arXiv 2411.18424) counts copies in the layer-major order of the vLLM it is built on.
Ours:  the order is a value, so that the same code can be measured with either.
Invariant: ``pieces_per_block * piece_bytes == block_bytes == block_size * token_bytes``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KVLayout"]

_DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
}
_ORDERS = ("block_major", "layer_major")


@dataclass(frozen=True, slots=True)
class KVLayout:
    """The shape, type and order of a KV pool's blocks.

    >>> llama_3_8b = KVLayout(num_layers=32, num_kv_heads=8, head_dim=128, block_size=16)
    >>> llama_3_8b.block_bytes == 2 * 2**20, llama_3_8b.pieces_per_block
    (True, 1)

    Args:
        num_layers: layers that keep KV.
        num_kv_heads: KV heads a layer.
        head_dim: elements a head.
        block_size: tokens a block.
        dtype: name of the element type as torch and numpy spell it, such as ``'bfloat16'``.
        order: ``'block_major'`` or ``'layer_major'``.

    Raises:
        ValueError: if a number is not a positive integer, or the dtype or the order is unknown.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: str = "bfloat16"
    order: str = "block_major"

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_kv_heads", "head_dim", "block_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.dtype not in _DTYPE_BYTES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPE_BYTES)}, got {self.dtype!r}")
        if self.order not in _ORDERS:
            raise ValueError(f"order must be one of {', '.join(_ORDERS)}, got {self.order!r}")

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one element."""
        return _DTYPE_BYTES[self.dtype]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's KV: all layers, K and V."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype_bytes

    @property
    def block_bytes(self) -> int:
        """Bytes of one block: all layers, K and V. Two pools may exchange blocks only if these are equal."""
        return self.block_size * self.token_bytes

    @property
    def pieces_per_block(self) -> int:
        """Contiguous pieces that a block consists of."""
        return 1 if self.order == "block_major" else 2 * self.num_layers

    @property
    def piece_bytes(self) -> int:
        """Bytes of one contiguous piece of a block."""
        return self.block_bytes // self.pieces_per_block

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold ``num_tokens`` tokens, the last one perhaps partly filled.

        Raises:
            ValueError: if ``num_tokens`` is negative.
        """
        if num_tokens < 0:
            raise ValueError(f"num_tokens must not be negative, got {num_tokens}")
        return -(-num_tokens // self.block_size)

    def pool_shape(self, num_blocks: int) -> tuple[int, ...]:
        """The shape of a pool's memory, outermost dim first: K and V are the dim of size 2.

        >>> KVLayout(3, 8, 128, 16, order="layer_major").pool_shape(5)
        (3, 2, 5, 16, 8, 128)

        Raises:
            ValueError: if ``num_blocks`` is not positive.
        """
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, got {num_blocks}")
        per_token = (self.block_size, self.num_kv_heads, self.head_dim)
        if self.order == "block_major":
            return (num_blocks, self.num_layers, 2, *per_token)
        return (self.num_layers, 2, num_blocks, *per_token)

"""Models as shapes: what an iteration computes and reads depends on nothing else.

Source: the configurations published with the models' weights. A decoder layer has four attention projections and three
of a gated MLP; norms and biases are left out, which is less than a thousandth of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fastswitch.memory import KVLayout

__all__ = ["MODELS", "ModelShape"]


@dataclass(frozen=True)  # without slots: cached properties need a dict, and an iteration asks for them
class ModelShape:
    """A decoder-only transformer with grouped-query attention.

    Attributes:
        name: as in a setup's name.
        title: for people.
        num_layers, hidden_size, num_heads, num_kv_heads, head_dim, intermediate_size, vocab_size: its configuration.
        weight_bytes_each: bytes of a stored weight; it is computed with in 16 bits all the same.
        kv_dtype: of a cached key or value, as torch spells it.
        source: where the numbers are from.
        max_positions: tokens of its longest context.

    >>> MODELS["llama8b"].kv_token_bytes, round(MODELS["llama8b"].num_parameters / 1e9, 2)
    (131072, 8.03)
    """

    name: str
    title: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    weight_bytes_each: int
    kv_dtype: str
    source: str
    max_positions: int

    @cached_property
    def layer_parameters(self) -> int:
        """Weights of all layers: each takes part in computing every token."""
        attention = 2 * (self.num_heads + self.num_kv_heads) * self.head_dim * self.hidden_size
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @cached_property
    def head_parameters(self) -> int:
        """Weights of the output head: only sampled tokens need it."""
        return self.vocab_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """All weights, the input embeddings included, of which an iteration reads a row a token."""
        return self.layer_parameters + 2 * self.head_parameters

    @cached_property
    def kv_token_bytes(self) -> int:
        """Bytes of one token's KV."""
        return self.kv_layout(1).token_bytes

    def kv_layout(self, block_size: int, order: str = "block_major") -> KVLayout:
        """The layout of its KV pools."""
        return KVLayout(self.num_layers, self.num_kv_heads, self.head_dim, block_size, self.kv_dtype, order)


MODELS = {
    each.name: each
    for each in (
        ModelShape(
            "llama8b",
            "Llama-3-8B",
            32,
            4096,
            32,
            8,
            128,
            14336,
            128256,
            2,
            "bfloat16",
            "meta-llama/Meta-Llama-3-8B",
            8192,
        ),
        ModelShape(
            "qwen32b", "Qwen2.5-32B", 64, 5120, 40, 8, 128, 27648, 152064, 2, "bfloat16", "Qwen/Qwen2.5-32B", 131072
        ),
        ModelShape(
            "llama70b",
            "Llama-3-70B",
            80,
            8192,
            64,
            8,
            128,
            28672,
            128256,
            2,
            "bfloat16",
            "meta-llama/Meta-Llama-3-70B",
            8192,
        ),
        ModelShape(
            "llama70b-fp8",
            "Llama-3-70B, weights in FP8",
            80,
            8192,
            64,
            8,
            128,
            28672,
            128256,
            1,
            "bfloat16",
            "meta-llama/Meta-Llama-3-70B",
            8192,
        ),
    )
}

"""Our attention inside a transformers model.

transformers hands each layer's rotated queries and keys to a registered function; ours writes the keys and values into
the pool's blocks and attends over the block tables. What a step needs travels as a keyword argument of the forward
pass, so there is no global state.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from fastswitch.kernels import AttentionPlan, paged_attention, write_kv
from fastswitch.memory.pool import KVPool

__all__ = ["ATTENTION_NAME", "AttentionContext", "PagedContext", "RefusedModelError", "register_attention"]

ATTENTION_NAME = "fastswitch"


class RefusedModelError(ValueError):
    """The model does not route its attention through us, so its KV would not be ours."""


class AttentionContext(Protocol):
    """What a forward pass carries."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """Attention of one layer.

        Args:
            layer: its index.
            query: ``[num_tokens, num_heads, head_dim]``, rotated.
            key: ``[num_tokens, num_kv_heads, head_dim]``, rotated.
            value: as ``key``.
            options: ``scale``, ``sliding_window``, ``softcap``, ``sinks``.

        Returns:
            ``[num_tokens, num_heads, head_dim]``.
        """


class PagedContext:
    """Keys and values of one step go to a pool's blocks.

    Args:
        pool: the device's KV.
        plan: the step's batch.
    """

    def __init__(self, pool: KVPool, plan: AttentionPlan) -> None:
        self._pool = pool
        self._plan = plan

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """Write this step's KV, then attend over all of it."""
        k_cache, v_cache = self._pool.k(layer), self._pool.v(layer)
        write_kv(key, value, k_cache, v_cache, self._plan.slot_mapping)
        return paged_attention(query, k_cache, v_cache, self._plan, **options)


def register_attention() -> None:
    """Make ``ATTENTION_NAME`` known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


def _attention(
    module: Any,
    query: torch.Tensor,  # [1, num_heads, num_tokens, head_dim]
    key: torch.Tensor,  # [1, num_kv_heads, num_tokens, head_dim]
    value: torch.Tensor,
    attention_mask: Any = None,  # noqa: ARG001
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    fastswitch_context: AttentionContext | None = None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    if fastswitch_context is None:
        raise RefusedModelError(f"{type(module).__name__} does not hand our arguments to its attention")
    options = {
        "scale": query.shape[-1] ** -0.5 if scaling is None else scaling,
        "sliding_window": sliding_window,
        "softcap": softcap,
        "sinks": s_aux,
    }
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return fastswitch_context.attend(module.layer_idx, query, key, value, options)[None], None


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    return None

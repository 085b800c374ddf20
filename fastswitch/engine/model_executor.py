"""Runs any transformers causal language model over a pool of KV blocks.

The batch is one flattened ragged row: prompts, pieces of prompts and decodes side by side, told apart by positions and
block tables. Ours: at load one forward pass probes that every layer calls our attention, and tells the KV's shape; a
model that keeps state elsewhere is refused with the layers that did not call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from fastswitch.engine.attention import ATTENTION_NAME, PagedContext, RefusedModelError, register_attention
from fastswitch.engine.executor import BatchEntry
from fastswitch.kernels import AttentionPlan
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["ModelExecutor", "kv_layout", "probe"]


class _Probe:
    """Notes which layers call and with what shape; attends causally within the row."""

    def __init__(self) -> None:
        self.shapes: dict[int, tuple[int, int]] = {}  # layer |-> (num_kv_heads, head_dim)
        self.dtypes: set[torch.dtype] = set()

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        if value.shape != key.shape:
            raise RefusedModelError(f"layer {layer} has keys {list(key.shape)} and values {list(value.shape)}")
        self.shapes[layer] = (key.shape[1], key.shape[2])
        self.dtypes.add(key.dtype)
        q, k, v = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=options["scale"], enable_gqa=True
        )
        return out[0].transpose(0, 1)


def probe(model: Any) -> _Probe:
    """Route the model's attention through us and check by one forward pass that it obeys.

    Args:
        model: a transformers causal language model, in eval mode.

    Raises:
        RefusedModelError: if a layer does not call our attention, or the layers' KV differ in shape.
    """
    name = type(model).__name__
    register_attention()
    seen = _Probe()
    try:
        model.set_attn_implementation(ATTENTION_NAME)
        ids = torch.zeros((1, 3), dtype=torch.long, device=model.device)
        positions = torch.arange(3, device=model.device)[None]
        with torch.inference_mode():
            model(input_ids=ids, position_ids=positions, use_cache=False, fastswitch_context=seen)
    except RefusedModelError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RefusedModelError(f"{name} does not run with our attention: {reason}") from error
    num_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    silent = sorted(set(range(num_layers)) - set(seen.shapes))
    if silent:
        raise RefusedModelError(
            f"{name}: layers {silent} of {num_layers} do not call our attention, so their state could not be switched"
        )
    if len(set(seen.shapes.values())) > 1:
        shapes = sorted(set(seen.shapes.values()))
        raise RefusedModelError(f"{name}: layers differ in KV shape {shapes}; one pool needs one")
    return seen


def kv_layout(model: Any, block_size: int, order: str) -> KVLayout:
    """The layout of a pool for the model, read off a probing forward pass.

    Raises:
        RefusedModelError: as ``probe``.
    """
    seen = probe(model)
    num_kv_heads, head_dim = seen.shapes[0]
    dtype = str(next(iter(seen.dtypes))).removeprefix("torch.")
    return KVLayout(len(seen.shapes), num_kv_heads, head_dim, block_size, dtype, order)


class ModelExecutor:
    """Computes batches with a model that was probed (``kv_layout`` does) and a pool of its layout.

    Args:
        model: a transformers causal language model, in eval mode, on the pool's device.
        pool: where its KV goes.
    """

    def __init__(self, model: Any, pool: KVPool) -> None:
        self._model = model
        self._pool = pool
        config = model.config.get_text_config(decoder=True)
        self.max_context = int(config.max_position_embeddings)
        self.vocab_size = int(config.vocab_size)

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        """Write the batch's KV into its blocks; greedy next tokens of the entries that sample.

        Returns when the tokens are known: on CUDA it waits for the iteration.
        """
        logits = self.logits(batch)
        tokens = iter(logits.argmax(dim=-1).tolist() if len(logits) else [])
        return [next(tokens) if entry.samples else None for entry in batch]

    @torch.inference_mode()
    def logits(self, batch: Sequence[BatchEntry]) -> torch.Tensor:
        """As ``run``, but the next-token logits of the entries that sample, ``[n, vocab_size]``."""
        device = self._pool.device
        query_lens = [entry.num_tokens for entry in batch]
        seq_lens = [entry.start + entry.num_tokens for entry in batch]
        plan = AttentionPlan.build(
            [entry.block_table for entry in batch],
            query_lens,
            seq_lens,
            block_size=self._pool.layout.block_size,
            device=device,
        )
        tokens = [token for entry in batch for token in entry.token_ids]
        positions = np.concatenate([np.arange(entry.start, entry.start + entry.num_tokens) for entry in batch])
        ends = np.cumsum(query_lens) - 1
        rows = ends[[entry.samples for entry in batch]]
        if not len(rows):
            rows = ends[:1]  # transformers reads an empty selection as "all rows"
        ids, position_ids, kept = _upload([tokens, positions, rows], device)
        out = self._model(
            input_ids=ids[None],
            position_ids=position_ids[None],
            use_cache=False,
            logits_to_keep=kept,
            fastswitch_context=PagedContext(self._pool, plan),
        )
        logits: torch.Tensor = out.logits[0]
        return logits[: sum(entry.samples for entry in batch)]


def _upload(columns: Sequence[ArrayLike], device: torch.device) -> tuple[torch.Tensor, ...]:
    """The numbers as int64 on ``device``, by one copy that nobody waits for."""
    arrays = [np.asarray(column, dtype=np.int64) for column in columns]
    packed = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        packed = packed.pin_memory()
    return torch.split(packed.to(device, non_blocking=True), [len(array) for array in arrays])

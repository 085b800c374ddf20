"""Models built in code, without a download: a tiny random Llama, and the shapes of well-known models.

Random weights with the usual spread (0.02) make models whose tokens hardly depend on their KV: a weak witness of a
wrong block. The tiny model's 0.3 makes a strong one.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["SHAPES", "shaped_config", "tiny_llama"]

# Sources: the models' published config.json.
_LLAMA_8B: dict[str, int | float] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
}
SHAPES: dict[str, dict[str, int | float]] = {
    "llama1b-shapes": {  # Llama-3.2-1B
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
    },
    "llama-3-8b-shapes": {**_LLAMA_8B, "max_position_embeddings": 8192},
    "llama8b-shapes": {**_LLAMA_8B, "max_position_embeddings": 131072},  # Llama-3.1-8B
    "qwen32b-shapes": {  # Qwen1.5-32B
        "hidden_size": 5120,
        "intermediate_size": 27392,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
    },
}


def shaped_config(name: str) -> Any:
    """A Llama configuration with the sizes of a well-known model.

    Raises:
        KeyError: if the name is not in ``SHAPES``.
    """
    from transformers import LlamaConfig

    return LlamaConfig(**SHAPES[name])


def tiny_llama(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """A Llama of 8 layers, 128 wide, 8 heads over 4 KV heads of 32, vocabulary 512, weights of spread 0.3.

    Args:
        seed: of the weights; the caller's random state is left alone.
        dtype: of the weights; in float64 no two ways of computing differ in a greedy token.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        head_dim=32,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=131072,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(dtype).eval()

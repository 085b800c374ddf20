"""What ``fastswitch generate`` does: one prompt through the engine, printed as it comes."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator

from fastswitch.engine.engine import Engine
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.model_executor import ModelExecutor, kv_layout
from fastswitch.engine.models import LoadedModel, load_model
from fastswitch.engine.usage import UsageError
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.memory.pool import KVPool
from fastswitch.sched import FCFS, PrefillFirst, Scheduler, SwapOut

__all__ = ["generate_text", "generate_tokens"]

BLOCK_SIZE = 16


def generate_text(name: str, prompt: str, *, max_new_tokens: int, device: str, dtype: str | None) -> None:
    """Print the greedy continuation of ``prompt`` as it comes; it ends at the model's end token.

    Raises:
        UsageError: if the prompt is empty or too long, or the model cannot be loaded.
    """
    if max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens must be at least 1, got {max_new_tokens}")
    model = load_model(name, device=device, dtype=dtype, random_weights=False, seed=0)
    tokens = list(model.tokenizer.encode(prompt)) if model.tokenizer is not None else model.encode(prompt)
    if not tokens:
        raise UsageError("--prompt must not be empty")
    if len(tokens) + max_new_tokens > model.max_context:
        raise UsageError(
            f"prompt ({len(tokens)} tokens) and answer ({max_new_tokens}) exceed the model's {model.max_context} "
            "positions: shorten one"
        )
    for piece in _decoded(model, generate_tokens(model, tokens, max_new_tokens)):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def generate_tokens(model: LoadedModel, tokens: list[int], max_new_tokens: int) -> Iterator[int]:
    """Greedy tokens, up to the model's end token, which is not among them."""
    layout = kv_layout(model.model, BLOCK_SIZE, "block_major")
    num_blocks = layout.blocks_for(len(tokens) + max_new_tokens)
    device_pool = KVPool(layout, num_blocks, model.model.device)
    host_pool = KVPool(layout, 1)
    kv = KVCacheManager(BlockGroupAllocator(num_blocks), BlockGroupAllocator(1), BLOCK_SIZE)
    scheduler = Scheduler(FCFS(), PrefillFirst(), SwapOut())
    engine = Engine(ModelExecutor(model.model, device_pool), scheduler, kv, InlineSwaps(device_pool, host_pool))
    turn_id = engine.submit(tokens, max_new_tokens)
    ends = _end_tokens(model)
    for token in engine.stream(turn_id):
        if token in ends:
            engine.cancel(turn_id)
            return
        yield token


def _end_tokens(model: LoadedModel) -> set[int]:
    end = model.model.generation_config.eos_token_id
    return set() if end is None else {end} if isinstance(end, int) else set(end)


def _decoded(model: LoadedModel, tokens: Iterator[int]) -> Iterator[str]:
    """Text as soon as it is certain: a character may need several tokens."""
    if model.tokenizer is None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in tokens:
            yield decoder.decode(bytes([token])) if token < 256 else f"<{token}>"
        return
    seen: list[int] = []
    printed = ""
    for token in tokens:
        seen.append(token)
        text = model.tokenizer.decode(seen, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            yield text[len(printed) :]
            printed = text
    rest = model.tokenizer.decode(seen, skip_special_tokens=True)[len(printed) :]
    yield rest

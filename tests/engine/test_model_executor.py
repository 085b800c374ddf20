"""Which models are taken, what is read off them, and that a batch is as good as its requests one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from fastswitch.engine.attention import RefusedModelError
from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.model_executor import ModelExecutor, kv_layout
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool
from tests.engine.small_models import SIZES, build

BLOCK_SIZE = 4


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_layout_is_read_off_the_model():
    layout = kv_layout(build("qwen3", num_hidden_layers=3), 8, "layer_major")
    assert layout == KVLayout(3, 2, 8, 8, "float64", "layer_major")
    layout = kv_layout(build("llama").to(torch.bfloat16), 16, "block_major")
    assert layout == KVLayout(2, 2, 8, 16, "bfloat16", "block_major")


def falcon():
    config = transformers.FalconConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, new_decoder_architecture=True
    )
    return transformers.FalconForCausalLM(config).eval()


def stablelm():
    sizes = {name: value for name, value in SIZES.items() if name != "head_dim"}
    return transformers.StableLmForCausalLM(transformers.StableLmConfig(**sizes)).eval()


@pytest.mark.parametrize("make", [falcon, stablelm])
def test_a_model_whose_attention_is_not_ours_is_refused_in_one_line(make):
    model = make()
    with pytest.raises(RefusedModelError) as refused:
        kv_layout(model, 16, "block_major")
    message = str(refused.value)
    assert "\n" not in message
    assert any(name in message for name in (type(model).__name__, "StableLm", "Falcon"))


def test_the_layers_that_do_not_call_are_named():
    model = build("llama", num_hidden_layers=3)

    class Elsewhere(torch.nn.Module):
        def forward(self, hidden_states, **_):
            return hidden_states, None

    model.model.layers[1].self_attn = Elsewhere()
    message = r"^LlamaForCausalLM: layers \[1\] of 3 do not call our attention, so their state could not be switched$"
    with pytest.raises(RefusedModelError, match=message):
        kv_layout(model, 16, "block_major")


def test_a_model_that_fails_is_refused_with_the_first_line_of_why():
    model = build("llama")

    def broken(*_, **__):
        raise RuntimeError("first\nsecond")

    model.model.layers[0].forward = broken
    with pytest.raises(RefusedModelError, match=r"^LlamaForCausalLM does not run with our attention: first$"):
        kv_layout(model, 16, "block_major")


class Bench:
    """An executor and block tables that were dealt out at random."""

    def __init__(self, name, seed=0):
        self.model = build(name)
        layout = kv_layout(self.model, BLOCK_SIZE, "block_major")
        self.pool = KVPool(layout, 32)
        self.pool.poison(np.arange(32))
        self.executor = ModelExecutor(self.model, self.pool)
        self.blocks = np.random.default_rng(seed).permutation(32).astype(np.int32)

    def entry(self, request_id, tokens, start=0, end=None, samples=True):
        table = self.blocks[8 * request_id : 8 * request_id + 8]
        num_tokens = len(tokens[start:end])
        return BatchEntry(request_id, start, num_tokens, samples, KnownTokens(tokens, table))


@pytest.fixture
def tokens():
    return np.random.default_rng(1).integers(0, SIZES["vocab_size"], (4, 21)).tolist()


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral"])
def test_prompts_pieces_and_decodes_in_one_batch_equal_each_alone(name, tokens):
    batched, alone = Bench(name), Bench(name, seed=2)
    reference = build(name, attn_implementation="sdpa")
    first = [batched.entry(0, tokens[0], 0, 20, samples=False), batched.entry(1, tokens[1], 0, 6, samples=False)]
    assert batched.executor.run(first) == [None, None]
    batch = [
        batched.entry(0, tokens[0], 20),  # a decode
        batched.entry(1, tokens[1], 6),  # the rest of a prompt
        batched.entry(2, tokens[2]),  # a prompt
        batched.entry(3, tokens[3], 0, 9, samples=False),  # a piece of one
    ]
    logits = batched.executor.logits(batch)
    assert logits.shape == (3, SIZES["vocab_size"])
    for row, request in zip(logits, range(3), strict=True):
        whole = alone.executor.logits([alone.entry(request, tokens[request])])[0]
        with torch.inference_mode():
            truth = reference(torch.tensor([tokens[request]])).logits[0, -1]
        torch.testing.assert_close(row, whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(row, truth, rtol=1e-9, atol=1e-9)
    wanted = logits.argmax(dim=-1).tolist()
    assert batched.executor.run(batch) == [*wanted, None]


def test_max_context_is_the_models():
    assert Bench("llama").executor.max_context == SIZES["max_position_embeddings"]

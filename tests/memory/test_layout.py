"""The sizes of a layout, against figures known from real models."""

from __future__ import annotations

import dataclasses

import pytest

from fastswitch.memory import KVLayout

LLAMA_3_8B = {"num_layers": 32, "num_kv_heads": 8, "head_dim": 128, "block_size": 16}


def test_llama_3_8b_block_major():
    layout = KVLayout(**LLAMA_3_8B)
    assert (layout.dtype, layout.order, layout.dtype_bytes) == ("bfloat16", "block_major", 2)
    assert layout.token_bytes == 128 * 1024
    assert (layout.block_bytes, layout.pieces_per_block, layout.piece_bytes) == (2 * 2**20, 1, 2 * 2**20)


def test_llama_3_8b_layer_major():
    layout = KVLayout(**LLAMA_3_8B, order="layer_major")
    assert (layout.block_bytes, layout.pieces_per_block, layout.piece_bytes) == (2 * 2**20, 64, 32 * 1024)


@pytest.mark.parametrize(("dtype", "num_bytes"), [("float64", 8), ("float32", 4), ("float16", 2), ("float8_e4m3fn", 1)])
def test_the_dtype_scales_every_size(dtype, num_bytes):
    layout = KVLayout(2, 3, 4, 5, dtype)
    assert layout.dtype_bytes == num_bytes
    assert layout.block_bytes == 2 * 2 * 3 * 4 * 5 * num_bytes


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (160, 10)])
def test_blocks_for(num_tokens, num_blocks):
    assert KVLayout(**LLAMA_3_8B).blocks_for(num_tokens) == num_blocks


def test_a_layout_is_a_value():
    assert KVLayout(**LLAMA_3_8B) == KVLayout(**LLAMA_3_8B)
    assert len({KVLayout(**LLAMA_3_8B), KVLayout(**LLAMA_3_8B)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        KVLayout(**LLAMA_3_8B).num_layers = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "num_layers must be a positive integer, got 0"),
        ({"num_kv_heads": -1}, "num_kv_heads must be a positive integer, got -1"),
        ({"head_dim": 1.5}, "head_dim must be a positive integer, got 1.5"),
        ({"block_size": "16"}, "block_size must be a positive integer, got '16'"),
        ({"order": "head_major"}, "order must be one of block_major, layer_major, got 'head_major'"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError) as caught:
        KVLayout(**(LLAMA_3_8B | change))
    assert str(caught.value) == message


def test_an_unknown_dtype_lists_the_known_ones():
    with pytest.raises(ValueError, match="^dtype must be one of float64, .*, uint8, got 'bf16'$"):
        KVLayout(**LLAMA_3_8B, dtype="bf16")


def test_negative_tokens():
    with pytest.raises(ValueError, match="^num_tokens must not be negative, got -1$"):
        KVLayout(**LLAMA_3_8B).blocks_for(-1)

"""Presets against the models' cards and the cards' data sheets."""

from __future__ import annotations

import re
from dataclasses import astuple

import pytest

from fastswitch.engine.simulator import HARDWARE, MODELS, Assumptions, find_setup
from fastswitch.engine.usage import UsageError

# per layer: attention 2 x (heads + KV heads) x 128 x hidden, MLP 3 x hidden x intermediate; twice vocabulary x hidden
# llama8b: 32 x (41,943,040 + 176,160,768) + 2 x 525,336,576; the card says 8.03 B
# qwen32b: 64 x (62,914,560 + 424,673,280) + 2 x 778,567,680; the card says 32.5 B, 31.0 B without embeddings
# llama70b: 80 x (150,994,944 + 704,643,072) + 2 x 1,050,673,152; the card says 70.6 B
PARAMETERS = {
    "llama8b": 8_029_995_008,
    "qwen32b": 32_762_757_120,
    "llama70b": 70_552_387_584,
    "llama70b-fp8": 70_552_387_584,
}
# K and V x layers x 8 heads x 128 x 2 bytes
TOKEN_BYTES = {"llama8b": 131_072, "qwen32b": 262_144, "llama70b": 327_680, "llama70b-fp8": 327_680}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_kv_are_those_of_the_models_card(name):
    assert MODELS[name].num_parameters == PARAMETERS[name]
    assert MODELS[name].kv_token_bytes == TOKEN_BYTES[name]
    assert MODELS[name].name == name


def test_qwen_without_embeddings_is_as_its_card_says():
    assert MODELS["qwen32b"].layer_parameters == pytest.approx(31.0e9, rel=0.01)


def test_a_block_of_llama_8b_has_2_mib_in_either_order():
    block_major = MODELS["llama8b"].kv_layout(16)
    layer_major = MODELS["llama8b"].kv_layout(16, "layer_major")
    assert (block_major.block_bytes, block_major.pieces_per_block) == (2 << 20, 1)
    assert (layer_major.block_bytes, layer_major.pieces_per_block) == (2 << 20, 64)


def test_weights_in_fp8_take_half_the_bytes_and_nothing_else_changes():
    full, half = MODELS["llama70b"], MODELS["llama70b-fp8"]
    assert (full.weight_bytes_each, half.weight_bytes_each) == (2, 1)
    assert half.kv_dtype == full.kv_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "device_tokens", "host_tokens", "frequency"),
    [
        ("llama8b-a10", 40_000, 457_763, 0.04),  # the paper's pool; 60e9 / 131,072
        ("qwen32b-a100", 25_000, 228_881, 0.02),  # the paper's pool; 60e9 / 262,144
        ("llama8b-a100", 426_788, 457_763, 0.04),  # (72e9 - 16,059,990,016) / 131,072
        ("llama8b-h200", 845_642, 1_525_878, 0.04),  # (126.9e9 - 16,059,990,016) / 131,072; 200e9 / 131,072
        ("qwen32b-gh200", 79_629, 1_525_878, 0.02),  # (86.4e9 - 65,525,514,240) / 262,144; 400e9 / 262,144
        ("llama70b-fp8-h100", 4_417, 610_351, 0.02),  # (72e9 - 70,552,387,584) / 327,680; 200e9 / 327,680
    ],
)
def test_a_setup_brings_its_pools_and_its_frequency(name, device_tokens, host_tokens, frequency):
    setup = find_setup(name)
    assert (setup.device_tokens, setup.host_tokens, setup.frequency) == (device_tokens, host_tokens, frequency)
    assert f"{setup.model.name}-{setup.hardware.name}" == setup.name == name


@pytest.mark.parametrize(
    "name", ["", "llama8b", "a10", "llama8b-", "-a10", "a10-llama8b", "llama8b-v100", "LLAMA8B-A10"]
)
def test_an_unknown_name_is_told_what_is_known(name):
    message = (
        "--setup must be MODEL-HARDWARE with a model of llama8b, qwen32b, llama70b, llama70b-fp8 and hardware of a10, "
        f"a100, h100, h200, gh200, got {name!r}"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        find_setup(name)


def test_weights_that_do_not_fit_are_refused_with_both_sizes():
    message = (
        "--setup llama70b-a100: the weights have 141 GB, 90% of the device's memory are 72 GB: take a smaller model or "
        "a larger device"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        find_setup("llama70b-a100")


def test_assumptions_are_shares_of_the_data_sheets():
    setup = find_setup("llama8b-a10")
    roofline, link = setup.roofline(Assumptions()), setup.link(Assumptions())
    # 60 % of 125 TFLOP/s, 80 % of 600 GB/s, 3 ms; 80 % of 32 GB/s, 10 us; a gather reads and writes each byte
    assert roofline.flops == pytest.approx(75e12)
    assert roofline.bytes_per_s == pytest.approx(480e9)
    assert (roofline.iteration_s, roofline.request_s) == (0.003, 0.0)
    assert link.call_us == pytest.approx(10)
    assert link.gbps == pytest.approx(25.6)
    assert link.gather_gbps == pytest.approx(240)
    assert setup.link(Assumptions(), gbps=7.0).gbps == 7.0


def test_hardware_is_as_its_data_sheet_says():
    assert {name: astuple(each)[2:6] for name, each in HARDWARE.items()} == {
        "a10": (125e12, 600e9, 24e9, 32e9),
        "a100": (312e12, 2039e9, 80e9, 32e9),
        "h100": (989e12, 3350e9, 80e9, 64e9),
        "h200": (989e12, 4800e9, 141e9, 64e9),
        "gh200": (990e12, 4000e9, 96e9, 450e9),
    }

"""Merging parts of attention: against the reference, and what must hold whatever the numbers are."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels import merge_attention, merge_attention_reference
from tests.kernels.attention_batches import NAN
from tests.kernels.backends import on_every_backend

INF = float("inf")


def make_parts(lses, dim, *, dtype=torch.float32, device="cpu"):
    """Parts whose log-sum-exps are given, ``[num_parts, num_tokens, num_heads]``; one without keys holds NaN."""
    torch.manual_seed(0)
    lses = torch.tensor(lses, dtype=dtype, device=device)
    outs = torch.randn(*lses.shape, dim).to(device, dtype)
    return outs.masked_fill(lses.eq(-INF)[..., None], NAN), lses


@st.composite
def log_sum_exps(draw):
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 3)))
    values = st.just(-INF) | st.floats(-1e4, 1e4, width=32) | st.floats(-2, 2, width=32)
    parts, tokens, heads = shape
    return [[[draw(values) for _ in range(heads)] for _ in range(tokens)] for _ in range(parts)]


@on_every_backend
@given(
    lses=log_sum_exps(),
    dim=st.sampled_from([1, 3, 16]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    sinks=st.none() | st.floats(-1e3, 1e3),
)
@settings(deadline=None, max_examples=40)
def test_equals_reference(device, lses, dim, dtype, sinks):
    outs, lses = make_parts(lses, dim, dtype=dtype, device=device)
    sinks = None if sinks is None else torch.full((lses.shape[2],), sinks, dtype=dtype, device=device)
    merged = merge_attention(outs, lses, sinks)
    assert merged.isfinite().all()
    torch.testing.assert_close(merged, merge_attention_reference(outs, lses, sinks), rtol=1e-4, atol=1e-5)


@on_every_backend
@pytest.mark.parametrize("num_parts", [16, 17, 40])
def test_more_parts_than_are_loaded_at_once(device, num_parts):
    outs, lses = make_parts([[[float(part % 5), float(-part)]] for part in range(num_parts)], 8, device=device)
    expected = merge_attention_reference(outs, lses)
    torch.testing.assert_close(merge_attention(outs, lses), expected, rtol=1e-5, atol=1e-6)


def test_reference_is_the_softmax_over_all_keys():
    scores, values = torch.randn(30, 2, 3, dtype=torch.float64), torch.randn(30, 2, 3, 5, dtype=torch.float64)
    sinks = torch.randn(3, dtype=torch.float64)
    pieces = [(scores[a:b], values[a:b]) for a, b in ((0, 7), (7, 8), (8, 30))]
    outs = torch.stack([(torch.softmax(s, 0)[..., None] * v).sum(0) for s, v in pieces])
    lses = torch.stack([torch.logsumexp(s, 0) for s, _ in pieces])
    terms = torch.cat([scores, sinks.expand(1, 2, 3)])
    expected = (torch.softmax(terms, 0)[:30, ..., None] * values).sum(0)
    torch.testing.assert_close(merge_attention_reference(outs, lses, sinks), expected)


@on_every_backend
def test_no_part_has_a_key(device):
    outs, lses = make_parts([[[-INF, 0.0]], [[-INF, 1.0]]], 4, device=device)
    for sinks in (None, torch.tensor([-INF, 2.0], device=device), torch.tensor([3.0, 2.0], device=device)):
        merged = merge_attention(outs, lses, sinks)
        assert not merged[0, 0].any()
        assert merged[0, 1].isfinite().all()


@on_every_backend
def test_one_part_comes_back_as_it_is(device):
    outs, lses = make_parts([[[0.5, -3.0], [80.0, 2.0]]], 8, device=device)
    assert torch.equal(merge_attention(outs, lses), outs[0])
    assert torch.equal(merge_attention([outs[0]], [lses[0]]), outs[0])


@on_every_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounds_to_the_nearest(device, dtype):
    outs, lses = make_parts([[[0.0] * 4] * 4], 64, device=device)
    merged = merge_attention(outs, lses, dtype=dtype)
    assert merged.dtype == dtype
    assert torch.equal(merged, outs[0].to(dtype))


@on_every_backend
def test_parts_of_any_strides(device):
    outs, lses = make_parts([[[1.0, 2.0, 3.0]], [[3.0, 1.0, 2.0]]], 4, device=device)
    strided = outs.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(merge_attention(strided, lses.mT.contiguous().mT), merge_attention(outs, lses))


@on_every_backend
def test_no_token(device):
    outs, lses = torch.zeros(2, 0, 3, 4, device=device), torch.zeros(2, 0, 3, device=device)
    assert merge_attention(outs, lses).shape == (0, 3, 4)


OUTS, LSES = torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4)
SHAPES = (
    "outs must be [num_parts, num_tokens, num_heads, head_dim] with at least one part, and lses the same "
    "without head_dim, got "
)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((OUTS, LSES[:1]), ValueError, SHAPES + "[2, 3, 4, 8] and [1, 3, 4]"),
        ((OUTS[:0], LSES[:0]), ValueError, SHAPES + "[0, 3, 4, 8] and [0, 3, 4]"),
        (
            (OUTS.half(), LSES),
            TypeError,
            "parts must be float32 or float64, outs as lses, got torch.float16 and torch.float32",
        ),
        ((OUTS, LSES, torch.zeros(3)), ValueError, "sinks must be one logit a head, (4,), got (3,)"),
        (
            (OUTS, LSES, torch.zeros(4, device="meta")),
            ValueError,
            "parts and sinks must be on one device, got ['cpu', 'meta']",
        ),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        merge_attention(*arguments)

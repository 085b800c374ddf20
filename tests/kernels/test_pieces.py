"""The table of pieces against the addresses of single elements, and that what it promises the compiler is true."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.kernels._blocks import pair_up
from fastswitch.kernels._pieces import PieceTable
from tests.kernels.backends import DTYPES, LAYOUTS, make_pool

layouts = st.sampled_from(LAYOUTS)
block_shapes = st.tuples(
    st.integers(1, 3), st.just(2), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, 3, 4, 8, 16])
)


def addresses(tensor, block):
    """Of every element of a block, in order."""
    sizes = [range(size) for size in tensor.shape[1:]]
    offsets = (
        sum(i * stride for i, stride in zip(index, tensor.stride()[1:], strict=True))
        for index in itertools.product(*sizes)
    )
    return [tensor.data_ptr() + (block * tensor.stride(0) + offset) * tensor.element_size() for offset in offsets]


@given(src=layouts, dst=layouts, dtype=st.sampled_from(DTYPES), shape=block_shapes, skipped=st.integers(0, 2))
@settings(deadline=None, max_examples=100)
def test_pieces_are_the_elements(src, dst, dtype, shape, skipped):
    sides = [make_pool(layout, 4, shape, dtype, seed=1)[0] for layout in (src, dst)]
    pairs = [(one[..., :: skipped + 1], other[..., :: skipped + 1]) for one, other in pair_up(*sides)]
    table = PieceTable.build(pairs)
    for column, side, block in ((0, 0, 3), (2, 1, 2)):
        starts = (table.rows[:, column] + block * table.rows[:, column + 1]).tolist()
        found = [start + i for start in starts for i in range(0, table.piece_bytes, dtype.itemsize)]
        assert found == [address for pair in pairs for address in addresses(pair[side], block)]
    assert (table.rows % table.align == 0).all()
    assert table.piece_bytes % table.align == 0
    doubled = 2 * table.align
    assert table.align == 16 or (table.rows % doubled).any() or table.piece_bytes % doubled


@pytest.mark.parametrize(
    ("src", "dst", "back_to_back"),
    [
        (torch.zeros(4, 2, 8), torch.zeros(3, 2, 8), True),
        (torch.zeros(2, 4, 8).transpose(0, 1), torch.zeros(2, 3, 8).transpose(0, 1), True),
        (torch.zeros(4, 2, 8), torch.zeros(2, 3, 8).transpose(0, 1), False),
        (torch.zeros(4, 2, 9)[..., :8], torch.zeros(4, 2, 8), False),
        (torch.zeros(4, 2, 8), torch.zeros(8, 2, 8)[::2], False),
    ],
)
def test_back_to_back(src, dst, back_to_back):
    assert PieceTable.build([(src, dst)]).back_to_back == back_to_back


BYTES = torch.zeros(4096, dtype=torch.uint8)
BYTES = BYTES[-BYTES.data_ptr() % 64 :]


@pytest.mark.parametrize(
    ("tensor", "piece_bytes", "align"),
    [
        (BYTES[:512].view(8, 64), 64, 16),
        (BYTES[:544].view(8, 68)[:, :64], 64, 4),  # the block stride decides
        (BYTES[:520].view(8, 65)[:, :64], 64, 1),
        (BYTES[8:520].view(8, 64), 64, 8),  # the address
        (BYTES[:512].view(8, 64)[:, :6], 6, 2),  # the size
        (BYTES[:512].view(2, 8, 32).transpose(0, 1), 32, 16),
        (BYTES[:544].as_strided((8, 2, 32), (64, 34, 1)), 32, 2),  # the distance of pieces
        (BYTES.as_strided((8, 2, 1, 32), (64, 32, 3, 1)), 64, 16),  # a dim of one element has no stride
    ],
)
def test_piece_size_and_alignment(tensor, piece_bytes, align):
    for pair in ((tensor, tensor.contiguous()), (tensor.contiguous(), tensor)):
        table = PieceTable.build([pair])
        assert (table.piece_bytes, table.align) == (piece_bytes, align)

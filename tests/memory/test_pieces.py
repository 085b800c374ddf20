"""Pieces are whole pages, cover every block of every plane, and end at the same block ids in each."""

from __future__ import annotations

import mmap
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory.pieces import MAX_PIECE_BYTES, PieceMap

PAGE = mmap.PAGESIZE


@st.composite
def piece_maps(draw):
    block_bytes = draw(st.integers(1, 3 * PAGE) | st.sampled_from([PAGE // 8, PAGE, 3 * PAGE // 2, 2 * PAGE]))
    num_blocks = draw(st.integers(1, 40) | st.integers(PAGE, 2 * PAGE))
    return PieceMap(draw(st.integers(1, 6)), num_blocks, block_bytes, draw(st.integers(1, 64 * PAGE)))


def bounds(pieces):
    """[start, end) of each piece in the memory."""
    ends = list(accumulate(pieces.piece_bytes))
    return list(zip([0, *ends], ends, strict=False))


@given(piece_maps())
def test_pieces_are_whole_pages_and_each_plane_starts_one(pieces):
    assert sum(pieces.piece_bytes) == pieces.num_planes * pieces.plane_bytes
    assert all(size > 0 and size % PAGE == 0 for size in pieces.piece_bytes)
    starts = {start for start, _ in bounds(pieces)}
    assert {plane * pieces.plane_bytes for plane in range(pieces.num_planes)} <= starts


@given(piece_maps())
def test_less_than_a_page_a_plane_is_not_used(pieces):
    assert 0 <= pieces.plane_bytes - pieces.num_blocks * pieces.block_bytes < PAGE


@given(piece_maps())
def test_a_block_lies_whole_in_the_piece_that_its_id_says(pieces):
    per_piece = pieces.blocks_per_piece or pieces.num_blocks
    each_plane = len(pieces.piece_bytes) // pieces.num_planes
    assert each_plane == -(-pieces.num_blocks // per_piece)
    for plane in range(pieces.num_planes):
        for block_id in {0, per_piece - 1, per_piece, 2 * per_piece - 1, pieces.num_blocks - 1}:
            if block_id < pieces.num_blocks:
                start, end = bounds(pieces)[plane * each_plane + block_id // per_piece]
                first_byte = plane * pieces.plane_bytes + block_id * pieces.block_bytes
                assert start <= first_byte
                assert first_byte + pieces.block_bytes <= end


@given(piece_maps())
def test_a_piece_is_no_larger_than_wished_unless_no_smaller_one_is_possible(pieces):
    largest, per_piece = max(pieces.piece_bytes), pieces.blocks_per_piece
    if largest > pieces.max_piece_bytes:
        fewest = next(n for n in range(1, PAGE + 1) if n * pieces.block_bytes % PAGE == 0)
        assert (per_piece or pieces.num_blocks) <= fewest
    elif per_piece is not None:
        assert pieces.plane_bytes > pieces.max_piece_bytes, "cut for nothing"


def test_a_plane_as_large_as_a_piece_may_be_is_one():
    assert PieceMap(3, 4, PAGE, 4 * PAGE).blocks_per_piece is None
    assert PieceMap(3, 4, PAGE, 4 * PAGE - 1).blocks_per_piece == 3
    # one piece, though a piece that another follows would have to end with a page, after PAGE blocks
    assert PieceMap(1, PAGE + PAGE // 4, 3, 4 * PAGE).blocks_per_piece is None
    assert PieceMap(1, PAGE + PAGE // 4, 3, 4 * PAGE - 1).blocks_per_piece == PAGE


def test_a_pool_of_odd_size_takes_no_more_than_its_bytes():
    gib, block_bytes = 2**30, 2 * 2**20
    pieces = PieceMap(1, 520 * gib // block_bytes, block_bytes)  # torch would take 1024 GiB
    assert sum(pieces.piece_bytes) == 520 * gib
    assert max(pieces.piece_bytes) == MAX_PIECE_BYTES < 512 * gib

"""The one kernel that copies blocks: by ids or by runs, between any two layouts, any number of tensors in one launch.

The grid is one-dimensional and of any size. Its programs go through *work items* in steps of the grid: an item is one
tile of one piece (see `PieceTable`) of one block. Runs are cut on the host into chunks of at most their mean length: at
most twice as many chunks as runs, and an item finds its block by division, with no search; places behind the end of a
chunk are skipped. Ids are chunks of one block. Where the blocks of a run lie back to back on both sides (the stride of
a block is the size of its piece), a chunk is one long piece, whatever the size of a block.

Ours:  all of it.
Invariants:
1. Whatever is multiplied by a block id or a stride is int64; so is the work index where int32 does not hold the items.
2. What the compiler is promised (`PieceTable.align`) is true of every address that is read or written.
3. Nothing waits for the device, and nothing is checked here: ids and runs come from a caller that did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastswitch.kernels._pieces import PieceTable
from fastswitch.kernels._triton import launching, upload

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["MAX_WARPS", "TILE_BYTES", "launch_ids", "launch_runs"]

# Words a program moves at a time, and in a warp. Of 8 bytes each, 32 words a lane are 16 loads of 16 bytes in flight in
# each lane of 4 warps, the best of 8, 16 and 32 that another engine published for its page copies on a B300. By the
# registers of the compiled kernel 5 such programs share an SM, so 160 KiB are in flight, where bandwidth times latency
# asks for about 30. On an H200 (benchmarks/sweep_zero_copy.py, 2026-11-26) tiles of 1,024 to 8,192 words in 4 or 8
# warps are equal within 2 %, over the link and in the pool. The interpreter's cost is per program, so large tiles suit
# it too.
TILE_WORDS = 4096
MAX_WARPS = 4
WORDS_PER_WARP = TILE_WORDS // MAX_WARPS  # a small piece takes fewer warps, not fewer loads in flight
TILE_BYTES = 8 * TILE_WORDS  # where the alignment allows words of 8 bytes
MAX_INT32 = 2**31 - 1  # programs of a grid; and work items (with one step behind the last) that an int32 counts

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
# [num_chunks] of a number for each chunk, on the device or on the host; None: 0, 1, 2, ... (of lengths: 1, 1, 1, ...)
Column = torch.Tensor | np.ndarray | None


if triton is not None:
    # Not specialised: a new number of runs or pieces, or ids at an odd address, must not compile the kernel again.
    @triton.jit(
        do_not_specialize=["num_items", "chunk_blocks", "num_pieces", "piece_units", "num_tiles"],
        do_not_specialize_on_alignment=["pieces_ptr", "src_starts_ptr", "dst_starts_ptr", "lengths_ptr"],
    )
    def _copy_kernel(
        pieces_ptr: tl.tensor,  # [num_pieces, 4] int64, the rows of a `PieceTable`
        src_starts_ptr: tl.tensor | None,  # [num_chunks] int32 or int64; None: chunk i comes from block i
        dst_starts_ptr: tl.tensor | None,  # [num_chunks] int32 or int64; None: chunk i goes to block i
        lengths_ptr: tl.tensor | None,  # [num_chunks] int64, blocks of a chunk; None: 1
        num_items: tl.tensor,  # num_chunks * chunk_blocks * num_pieces * num_tiles
        chunk_blocks: tl.tensor,  # places for blocks in a chunk, filled or not; JOINED: 1, for all of them
        num_pieces: tl.tensor,
        piece_units: tl.tensor,  # size of a piece, in units of ALIGN bytes
        num_tiles: tl.tensor,  # tiles that cover a piece; JOINED: that cover the pieces of the longest chunk
        INDEX: tl.constexpr,  # integer type of the work index
        JOINED: tl.constexpr,  # the blocks of a chunk lie back to back on both sides
        WORD: tl.constexpr,  # integer type that is moved
        WORDS_PER_UNIT: tl.constexpr,
        ALIGN: tl.constexpr,  # bytes; divides every address, stride and size in the table
        TILE: tl.constexpr,  # words of an item
    ) -> None:
        # grid: (any,); program p copies items p, p + grid, p + 2 * grid, ...; tiles vary fastest, chunks slowest
        first_item, step = tl.program_id(0).to(INDEX), tl.num_programs(0).to(INDEX)
        for item in range(first_item, num_items.to(INDEX), step):
            piece_item = item // num_tiles
            block_item = piece_item // num_pieces
            chunk = (block_item // chunk_blocks).to(tl.int64)
            block = (block_item % chunk_blocks).to(tl.int64)
            length = 1 if lengths_ptr is None else tl.load(lengths_ptr + chunk)
            src_block = block + (chunk if src_starts_ptr is None else tl.load(src_starts_ptr + chunk).to(tl.int64))
            dst_block = block + (chunk if dst_starts_ptr is None else tl.load(dst_starts_ptr + chunk).to(tl.int64))

            units = (length if JOINED else (block < length).to(tl.int64)) * piece_units
            first_word = (item % num_tiles).to(tl.int64) * TILE
            # Not below 0: an int32 would not hold how far a tile lies behind the end of a long chunk.
            words = tl.maximum(tl.minimum(units * WORDS_PER_UNIT - first_word, TILE), 0).to(tl.int32)
            word = tl.arange(0, TILE)
            mask = word < tl.multiple_of(words, WORDS_PER_UNIT)

            row_ptr = pieces_ptr + (piece_item % num_pieces) * 4
            src = tl.load(row_ptr) + src_block * tl.load(row_ptr + 1)
            dst = tl.load(row_ptr + 2) + dst_block * tl.load(row_ptr + 3)
            # Without the promise of alignment the compiler moves single words: it cannot see through a loaded address.
            src_ptr = tl.multiple_of(src.to(tl.pointer_type(WORD)), ALIGN) + first_word
            dst_ptr = tl.multiple_of(dst.to(tl.pointer_type(WORD)), ALIGN) + first_word
            tl.store(dst_ptr + word, tl.load(src_ptr + word, mask=mask), mask=mask)


def launch_ids(
    pairs: Pairs | PieceTable,
    src_ids: Column,
    dst_ids: Column,
    num_blocks: int,
    device: torch.device,
    *,
    num_programs: int | None = None,
) -> None:
    """Copy block ``src_ids[i]`` of every pair's source to block ``dst_ids[i]`` of its destination, in one launch.

    Enqueued on the current stream of ``device``.

    Args:
        pairs: (source, destination): dim 0 is the block, the other dims and the dtype are equal. The two may be on
            different devices, if ``device`` reaches both addresses: page-locked host memory and a CUDA device. Or the
            table of such pairs.
        src_ids: ``[num_blocks]`` int32 or int64 on ``device``, in range; or an int64 numpy array, which is uploaded;
            ``None`` stands for 0, 1, 2, ...
        dst_ids: as ``src_ids``, without repeats.
        num_blocks: blocks to copy.
        device: where the kernel runs.
        num_programs: the largest grid; fewer leave room to other kernels. ``None``: a program a tile.
    """
    _launch(_table_of(pairs), (src_ids, dst_ids, None), (num_blocks, 1), device, num_programs)


def launch_runs(
    pairs: Pairs | PieceTable, runs: np.ndarray, device: torch.device, *, num_programs: int | None = None
) -> None:
    """Copy runs of consecutive blocks of every pair, in one launch and with one upload.

    Enqueued on the current stream of ``device``.

    Args:
        pairs: as for `launch_ids`.
        runs: ``[n, 3]`` int64 of (src_start, dst_start, num_blocks), in range, of at least one block each, with
            disjoint destinations.
        device: where the kernel runs.
        num_programs: as for `launch_ids`.
    """
    if len(runs):
        chunks, chunk_blocks = _cut(runs)
        _launch(_table_of(pairs), tuple(chunks.T), (len(chunks), chunk_blocks), device, num_programs)


def _table_of(pairs: Pairs | PieceTable) -> PieceTable:
    return pairs if isinstance(pairs, PieceTable) else PieceTable.build(pairs)


def _cut(runs: np.ndarray) -> tuple[np.ndarray, int]:
    """The runs in chunks of at most their mean length (rounded up), and that length."""
    lengths = runs[:, 2]
    chunk_blocks = -(-int(lengths.sum()) // len(runs))
    counts = -(-lengths // chunk_blocks)
    first_chunks = np.cumsum(counts) - counts
    # chunk |-> blocks of its run that lie before it
    before = (np.arange(counts.sum()) - np.repeat(first_chunks, counts)) * chunk_blocks
    chunks = np.repeat(runs, counts, axis=0)
    chunks[:, :2] += before[:, None]
    chunks[:, 2] = np.minimum(chunks[:, 2] - before, chunk_blocks)
    return chunks, chunk_blocks


def _launch(
    table: PieceTable, columns: tuple[Column, ...], shape: tuple[int, int], device: torch.device, max_grid: int | None
) -> None:
    """Launch over ``shape`` = (chunks, places for blocks in each); columns: sources, destinations, lengths."""
    num_chunks, chunk_blocks = shape
    joined = chunk_blocks > 1 and table.back_to_back
    places, longest_bytes = (1, table.piece_bytes * chunk_blocks) if joined else (chunk_blocks, table.piece_bytes)
    word_bytes = min(table.align, 8)
    # Programs of 4 warps would spill registers where words are bytes.
    most_words = TILE_WORDS if word_bytes > 2 else WORDS_PER_WARP
    tile = min(most_words, triton.next_power_of_2(max(1, longest_bytes // word_bytes)))
    num_tiles = -(-longest_bytes // (tile * word_bytes))
    num_items = num_chunks * places * len(table.rows) * num_tiles
    if num_items == 0:
        return
    grid = min(num_items, MAX_INT32, num_items if max_grid is None else max_grid)
    with launching(device):
        pieces, src_starts, dst_starts, lengths = _upload(table.rows, columns, device)
        _copy_kernel[(grid,)](
            pieces,
            src_starts,
            dst_starts,
            lengths,
            num_items,
            places,
            len(table.rows),
            table.piece_bytes // table.align,
            num_tiles,
            INDEX=tl.int32 if num_items + grid <= MAX_INT32 else tl.int64,
            JOINED=joined,
            WORD={1: tl.int8, 2: tl.int16, 4: tl.int32}.get(table.align, tl.int64),
            WORDS_PER_UNIT=table.align // word_bytes,
            ALIGN=table.align,
            TILE=tile,
            num_warps=max(1, tile // WORDS_PER_WARP),
        )


def _upload(rows: np.ndarray, columns: tuple[Column, ...], device: torch.device) -> tuple[torch.Tensor | None, ...]:
    """The rows and the columns on ``device``; those on the host travel in one upload."""
    hosted = [rows.ravel(), *(column for column in columns if isinstance(column, np.ndarray))]
    # Of even length, so that each begins at a multiple of 16 bytes.
    sizes = [len(array) + len(array) % 2 for array in hosted]
    packed = np.zeros(sum(sizes), dtype=np.int64)
    for array, end, size in zip(hosted, np.cumsum(sizes).tolist(), sizes, strict=True):
        packed[end - size : end - size + len(array)] = array
    pieces, *uploaded = torch.split(upload(packed, device), sizes)
    remaining = iter(uploaded)
    return pieces, *(next(remaining) if isinstance(column, np.ndarray) else column for column in columns)

"""A pool as a picture: a map of its blocks, one colour an owner.

Block ids run along a row and then on to the next row, so a group is a bar and a scattered owner is confetti. Free
blocks, reserved tails among them, are nearly white.

Source: ours. matplotlib is imported when something is drawn, and no display is needed: figures are made without pyplot,
so none is shown or kept, and the caller saves what is returned.
"""

from __future__ import annotations

import colorsys
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastswitch.memory.allocator import BlockAllocator
from fastswitch.memory.statistics import pool_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FREE", "OUTSIDE", "draw_pool", "draw_pools", "owner_colours", "owner_grid"]

FREE = -1  # in an owner grid: a block that nobody owns
OUTSIDE = -2  # in an owner grid: behind the pool's last block, where the last row is longer than the pool

_FREE_COLOUR = (0.95, 0.95, 0.95, 1.0)
_OUTSIDE_COLOUR = (1.0, 1.0, 1.0, 0.0)
_GOLDEN_ANGLE = 0.6180339887498949  # of a turn of hue: any few owners in a row are far apart
# Lightness and saturation take turns, so that owners whose hues come close again differ in these.
_SHADES = ((0.50, 0.60), (0.70, 0.65), (0.38, 0.50), (0.60, 0.45), (0.78, 0.55))
_PANEL_INCHES = (3.2, 3.2)  # width, height


def owner_grid(
    allocator: BlockAllocator, owners: Iterable[Hashable] | None = None, *, columns: int | None = None
) -> NDArray[np.int32]:
    """Who owns each block, as the map is drawn: block ``b`` is at row ``b // columns``, column ``b % columns``.

    >>> from fastswitch.memory.paged import PagedAllocator
    >>> allocator = PagedAllocator(7)
    >>> for owner in "aba":
    ...     _ = allocator.allocate(owner, 2)
    >>> owner_grid(allocator, columns=4)
    array([[ 0,  0,  1,  1],
           [ 0,  0, -1, -2]], dtype=int32)

    Args:
        allocator: the pool.
        owners: the order in which owners are numbered, with every owner of the pool in it; the allocator's if None.
        columns: blocks in a row; if None a power of two that makes the map between square and twice as high or wide.

    Returns:
        A new int32 array ``[rows, columns]``: the owner's position in ``owners``, `FREE` or `OUTSIDE`.

    Raises:
        ValueError: if ``columns`` is not positive, or ``owners`` lacks an owner of the pool.
    """
    if columns is None:
        columns = 1 << allocator.num_blocks.bit_length() // 2
    if columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    positions = {owner: i for i, owner in enumerate(allocator.owners if owners is None else owners)}
    if lacking := [owner for owner in allocator.owners if owner not in positions]:
        raise ValueError(f"owners must name every owner of the pool, {lacking[0]!r} is not among them")
    num_rows = -(-allocator.num_blocks // columns)
    cells = np.full(num_rows * columns, OUTSIDE, np.int32)
    cells[: allocator.num_blocks] = FREE
    for owner in allocator.owners:
        for group in allocator.groups(owner):
            cells[group.start : group.end] = positions[owner]
    return cells.reshape(num_rows, columns)


def owner_colours(num_owners: int) -> NDArray[np.float64]:
    """Colours that tell owners apart, always the same: ``[num_owners, 4]`` in RGBA, in [0, 1]."""
    colours = [colorsys.hls_to_rgb(i * _GOLDEN_ANGLE % 1, *_SHADES[i % len(_SHADES)]) for i in range(num_owners)]
    return np.array([(*colour, 1.0) for colour in colours]).reshape(num_owners, 4)


def draw_pool(
    allocator: BlockAllocator,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    owners: Iterable[Hashable] | None = None,
    columns: int | None = None,
) -> Axes:
    """Draw one pool as a map of its blocks.

    >>> from fastswitch.memory.paged import PagedAllocator
    >>> draw_pool(PagedAllocator(64)).figure.savefig("pool.png")  # doctest: +SKIP

    Args:
        allocator: the pool.
        ax: where to draw; a new figure's if None.
        title: above the map, before the pool's figures; the figures alone if None.
        owners: the order in which owners take colours, as in `owner_grid`: pools that share it share the colours.
        columns: blocks in a row, as in `owner_grid`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if ``columns`` is not positive, or ``owners`` lacks an owner of the pool.
    """
    owners = tuple(allocator.owners if owners is None else owners)
    grid = owner_grid(allocator, owners, columns=columns)
    if ax is None:
        ax = _figure(1).subplots()
    # FREE and OUTSIDE count from the end, as negative indices do.
    colours = np.vstack([owner_colours(len(owners)), _OUTSIDE_COLOUR, _FREE_COLOUR])
    ax.imshow(colours[grid], interpolation="nearest", aspect="auto")
    ax.set_xticks([])
    rows = range(0, len(grid), max(1, len(grid) // 4))
    ax.set_yticks(rows, [str(row * grid.shape[1]) for row in rows], fontsize=8)
    ax.set_ylabel("block id", fontsize=8)
    ax.set_title("\n".join(filter(None, [title, _figures(allocator)])), fontsize=9)
    return ax


def draw_pools(pools: Mapping[str, BlockAllocator], *, columns: int | None = None) -> Figure:
    """Draw pools beside each other, an owner in the same colour in all of them.

    Args:
        pools: name |-> pool; the name is the title of its map.
        columns: blocks in a row, as in `owner_grid`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no pool, or ``columns`` is not positive.
    """
    if not pools:
        raise ValueError("there is no pool to draw, give draw_pools at least one")
    owners = tuple(dict.fromkeys(owner for allocator in pools.values() for owner in allocator.owners))
    figure = _figure(len(pools))
    panels = figure.subplots(1, len(pools), squeeze=False)[0]
    for (name, allocator), ax in zip(pools.items(), panels, strict=True):
        draw_pool(allocator, ax, title=name, owners=owners, columns=columns)
    figure.supxlabel("each colour is an owner, pale blocks are free", fontsize=8)
    return figure


def _figure(num_panels: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing a pool needs matplotlib: pip install 'fastswitch[engine]'") from error
    width, height = _PANEL_INCHES
    return Figure(figsize=(width * num_panels, height), layout="constrained")


def _figures(allocator: BlockAllocator) -> str:
    statistics = pool_statistics(allocator)
    return (
        f"{statistics.groups_per_owner_mean:.1f} runs per owner\n"
        f"free room {statistics.external_fragmentation:.0%} fragmented"
    )

"""The map of a pool: each block has the colour of its owner; nothing is loaded before something is drawn."""

from __future__ import annotations

import colorsys
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.memory.block_group import BlockGroupAllocator
from fastswitch.memory.buddy import BuddyAllocator
from fastswitch.memory.paged import PagedAllocator
from fastswitch.memory.plot import FREE, OUTSIDE, draw_pool, draw_pools, owner_colours, owner_grid
from tests.test_layers import python, without

ALLOCATORS = pytest.mark.parametrize("make", [PagedAllocator, BuddyAllocator, BlockGroupAllocator])


def churned(allocator, sizes):
    """Owners 0, 1, ... take turns in growing by these sizes while there is room; owner 1 leaves."""
    for i, size in enumerate(sizes):
        if size <= allocator.num_free:
            allocator.allocate(i % 4, size)
    if 1 in allocator.owners:
        allocator.free(1)
    return allocator


def drawn(ax):
    """The colours of the image, ``[rows, columns, 4]``."""
    (image,) = ax.images
    return np.asarray(image.get_array())


@ALLOCATORS
@given(num_blocks=st.integers(1, 90), sizes=st.lists(st.integers(1, 9), max_size=20), columns=st.integers(1, 20))
def test_the_grid_names_each_blocks_owner(make, num_blocks, sizes, columns):
    allocator = churned(make(num_blocks), sizes)
    grid = owner_grid(allocator, columns=columns)
    assert grid.dtype == np.int32
    assert grid.shape == (math.ceil(num_blocks / columns), columns)
    owner_of = {block_id: owner for owner in allocator.owners for block_id in allocator.block_ids(owner).tolist()}
    for cell, position in enumerate(grid.ravel().tolist()):
        if cell >= num_blocks:
            assert position == OUTSIDE
        elif cell in owner_of:
            assert allocator.owners[position] == owner_of[cell]
        else:
            assert position == FREE


@pytest.mark.parametrize(
    ("num_blocks", "shape"), [(1, (1, 1)), (3, (2, 2)), (64, (8, 8)), (2048, (32, 64)), (4095, (64, 64))]
)
def test_the_grid_is_about_square(num_blocks, shape):
    assert owner_grid(PagedAllocator(num_blocks)).shape == shape


@ALLOCATORS
def test_the_picture_has_the_colour_of_each_blocks_owner(make):
    allocator = churned(make(70), [9, 5, 7, 3, 4, 6, 2])
    colours = owner_colours(len(allocator.owners))
    cells = drawn(draw_pool(allocator, columns=16)).reshape(-1, 4)
    pale, outside = cells[69], cells[70]
    assert allocator.num_free > 0
    for position, owner in enumerate(allocator.owners):
        assert (cells[allocator.block_ids(owner)] == colours[position]).all()
    for group in allocator.free_groups():
        assert (cells[group.start : group.end] == pale).all()
    assert pale[:3].min() > 0.9
    assert outside[3] == 0, "what is no block is transparent"
    assert (cells[70:] == outside).all()


def test_an_owner_has_one_colour_in_all_pools():
    one, other = PagedAllocator(64), PagedAllocator(64)
    for owner in "abc":
        one.allocate(owner, 8)
    for owner in "zca":
        other.allocate(owner, 8)
    left, right = (drawn(ax).reshape(-1, 4) for ax in draw_pools({"one": one, "other": other}).axes)
    assert (left[one.block_ids("c")[0]] == right[other.block_ids("c")[0]]).all()
    assert (left[one.block_ids("a")[0]] == right[other.block_ids("a")[0]]).all()
    assert (left[one.block_ids("a")[0]] != right[other.block_ids("z")[0]]).any()


def test_colours_are_distinct_and_neighbours_far_apart():
    colours = owner_colours(200)
    assert colours.shape == (200, 4)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert len({tuple(colour) for colour in colours.round(3).tolist()}) == 200
    hues = [colorsys.rgb_to_hls(*colour[:3])[0] for colour in colours]
    for i in range(0, 196, 4):
        for one, other in combinations(hues[i : i + 4], 2):
            apart = abs(one - other)
            assert min(apart, 1 - apart) > 0.1
    assert colours[:, :3].min(axis=1).max() < 0.75, "an owner looks like free room"


def test_colours_do_not_hang_on_hashes_or_on_how_many_owners_there_are():
    assert (owner_colours(3) == owner_colours(50)[:3]).all()
    assert owner_colours(0).shape == (0, 4)


@ALLOCATORS
def test_empty_and_full_pools_are_drawn(make):
    allocator = make(10)
    assert len(np.unique(drawn(draw_pool(allocator, columns=5)).reshape(-1, 4), axis=0)) == 1
    allocator.allocate("a", 10)
    assert (drawn(draw_pool(allocator, columns=5)) == owner_colours(1)[0]).all()


def test_titles_hold_the_figures():
    allocator = PagedAllocator(12)
    for owner in "aba":
        allocator.allocate(owner, 2)
    allocator.free("b")
    figures = "2.0 runs per owner\nfree room 25% fragmented"
    assert draw_pool(allocator).get_title() == figures
    assert draw_pool(allocator, title="paged").get_title() == f"paged\n{figures}"
    figure = draw_pools({"one": allocator, "two": PagedAllocator(4)})
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["one", "two"]


def test_draws_into_the_callers_axes():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert draw_pool(PagedAllocator(8), ax) is ax
    assert len(ax.images) == 1


def test_a_drawn_figure_can_be_saved(tmp_path):
    path = tmp_path / "pools.png"
    draw_pools({"paged": churned(PagedAllocator(100), [3] * 12)}).savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: owner_grid(a, columns=0), "columns must be positive, got 0"),
        (lambda a: draw_pool(a, columns=-4), "columns must be positive, got -4"),
        (lambda a: draw_pools({"a": a}, columns=0), "columns must be positive, got 0"),
        (lambda a: owner_grid(a, ["b"]), "owners must name every owner of the pool, 'a' is not among them"),
        (lambda a: draw_pool(a, owners="bc"), "owners must name every owner of the pool, 'a' is not among them"),
        (lambda _: draw_pools({}), "there is no pool to draw, give draw_pools at least one"),
    ],
)
def test_a_refused_call_says_why(call, message):
    allocator = PagedAllocator(8)
    allocator.allocate("a", 1)
    with pytest.raises(ValueError) as caught:
        call(allocator)
    assert str(caught.value) == message


def test_matplotlib_is_loaded_when_something_is_drawn():
    program = "import sys, fastswitch.memory.plot as plot\nfrom fastswitch.memory.paged import PagedAllocator\n"
    program += "assert 'matplotlib' not in sys.modules\n"
    program += "plot.owner_grid(PagedAllocator(8)), plot.owner_colours(3)\n"
    program += "assert 'matplotlib' not in sys.modules\n"
    program += "plot.draw_pool(PagedAllocator(8))\n"
    program += "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    assert python(program) == ["True", "False"]


@pytest.mark.parametrize("call", ["draw_pool(pool)", "draw_pools({'pool': pool})"])
def test_without_matplotlib_drawing_says_what_to_install(call):
    program = "from fastswitch.memory.plot import *\nfrom fastswitch.memory.paged import PagedAllocator\n"
    program += f"pool = PagedAllocator(8)\ntry:\n    {call}\n"
    program += "except ImportError as error:\n    print(error)"
    said = " ".join(python(without("matplotlib") + program))
    assert said == "drawing a pool needs matplotlib: pip install 'fastswitch[engine]'"

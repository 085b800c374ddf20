"""Which way a job goes: what was asked for, the cheapest on the emulated link, or the cheapest as measured."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.ways import _cheapest_here, way_of
from fastswitch.kernels import DIRECTIONS, TRANSFERS, TRANSPOSING, TransferCosts, WayCost, per_run
from fastswitch.memory import KVLayout, SwapDirection
from fastswitch.memory.pool import KVPool
from tests.memory.registrars import RecordingRegistrar

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN
BLOCKS = KVLayout(8, 4, 32, 4, "float64")  # 64 KiB a block, in 16 pieces of 4 KiB in the other order
LAYERS = KVLayout(8, 4, 32, 4, "float64", "layer_major")
SCATTERED = np.array([[2 * i, 60 - 2 * i, 1] for i in range(30)])
ONE_RUN = np.array([[0, 0, 30]])


def pools(device=BLOCKS, host=BLOCKS):
    return KVPool(device, 64), KVPool(host, 64)


@pytest.mark.parametrize("way", TRANSFERS)
def test_a_named_way_is_taken_always(way):
    choose = way_of(way, *pools(), None)
    for direction, runs in ((OUT, SCATTERED), (IN, ONE_RUN)):
        name, transfer = choose(direction, runs)
        assert name == way
        assert getattr(transfer, "func", transfer) is TRANSFERS[way]


def test_a_transfer_of_ones_own():
    def mine(src_planes, dst_planes, runs):
        return per_run(src_planes, dst_planes, runs)

    assert way_of(mine, *pools(), None)(OUT, ONE_RUN) == ("mine", mine)
    message = "the emulated link knows the cost of named transfers only: leave out link"
    with pytest.raises(ValueError, match=f"^{message}$"):
        way_of(mine, *pools(), EmulatedLink(1.0, 1.0))


@pytest.mark.parametrize(
    ("link", "runs", "way"),
    [
        (EmulatedLink(10.0, 1000.0), ONE_RUN, "per_run"),  # 10 us against 10.6 of a batch
        (EmulatedLink(10.0, 1000.0), SCATTERED, "zero_copy"),  # 300, 28, 12.5 us
        (EmulatedLink(10.0, 10.0), SCATTERED, "batched"),  # 300, 197, 256 us
    ],
)
def test_on_the_emulated_link_the_cheapest_by_its_costs(link, runs, way):
    costs = {each: link.cost_s(each, runs, 1, BLOCKS.block_bytes) for each in TRANSFERS}
    assert min(costs, key=costs.get) in (way, "per_block")
    name, transfer = way_of("chosen", *pools(), link)(OUT, runs)
    assert name == way
    assert getattr(transfer, "func", transfer) is TRANSFERS[name]


def test_of_equal_ways_it_is_not_the_one_that_never_wins():
    runs = np.array([[0, 0, 1]])  # a block, so per_block costs what per_run does
    assert way_of("chosen", *pools(), EmulatedLink(10.0, 1000.0))(OUT, runs)[0] == "per_run"


def test_staged_joins_nothing_over_the_edge_of_a_page_locked_piece():
    """The host's pieces are of 8 blocks."""
    device = KVPool(BLOCKS, 64)
    host = KVPool.pinned_by(RecordingRegistrar(), BLOCKS, 64, max_piece_bytes=8 * BLOCKS.block_bytes)
    _, transfer = way_of("staged", device, host, None)(OUT, ONE_RUN)
    runs = np.array([[2 * i, i, 1] for i in range(4, 20)])
    assert transfer(device.planes, host.planes, runs).copies == 3  # 4 to 7, 8 to 15, 16 to 19
    assert TRANSFERS["staged"](device.planes, host.planes, runs).copies == 1


@pytest.mark.parametrize("orders", [(BLOCKS, LAYERS), (LAYERS, BLOCKS)])
def test_between_orders_only_what_transposes_is_chosen(orders):
    for link in (EmulatedLink(10.0, 10.0), EmulatedLink(1e-3, 10.0)):
        assert way_of("chosen", *pools(*orders), link)(OUT, SCATTERED)[0] in TRANSPOSING


def flat_cost(job_us, call_us):
    """A copy takes the same time whatever its bytes."""
    return WayCost(job_us * 1e-6, (1, 1 << 30), (call_us * 1e-6, call_us * 1e-6))


@pytest.mark.parametrize(
    ("device", "host", "runs", "way"),
    [
        (BLOCKS, BLOCKS, ONE_RUN, "per_run"),  # one copy
        (BLOCKS, BLOCKS, SCATTERED, "batched"),  # 30 copies: 160 us against 50, and staged has 30 on the host too
        (LAYERS, LAYERS, SCATTERED, "zero_copy"),  # 480 copies
        # 30 blocks that are scattered on the device and one range on the host, in either order of the rows
        (BLOCKS, BLOCKS, np.array([[2 * i, i, 1] for i in range(30)]), "staged"),
        (BLOCKS, BLOCKS, np.array([[2 * i, 29 - i, 1] for i in range(30)]), "staged"),
        (LAYERS, BLOCKS, np.array([[2 * i, i, 1] for i in range(30)]), "staged"),
        (BLOCKS, LAYERS, SCATTERED, "zero_copy"),
    ],
)
def test_the_cheapest_as_measured_counts_copies_and_host_ranges(device, host, runs, way):
    ways = {
        "per_run": flat_cost(0, 5),
        "batched": flat_cost(35, 0.5),
        "zero_copy": flat_cost(60, 1e-4),
        "staged": flat_cost(30, 6),
    }
    possible = [each for each in ways if device == host or each in TRANSPOSING]
    costs = TransferCosts({}, dict.fromkeys(DIRECTIONS, ways))
    assert _cheapest_here(costs, OUT, runs, device, host, possible) == way


def test_a_swap_in_reads_the_other_half_of_the_table():
    ways = {"per_run": flat_cost(0, 1), "batched": flat_cost(0, 2)}
    the_reverse = {"per_run": flat_cost(0, 2), "batched": flat_cost(0, 1)}
    costs = TransferCosts({}, dict(zip(DIRECTIONS, [ways, the_reverse], strict=True)))
    assert _cheapest_here(costs, OUT, ONE_RUN, BLOCKS, BLOCKS, ways) == "per_run"
    assert _cheapest_here(costs, IN, ONE_RUN, BLOCKS, BLOCKS, ways) == "batched"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver")
def test_a_way_that_is_not_there_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"^batched needs (a CUDA driver, and none is installed|cuda-bindings: pip)"):
        way_of("batched", OnCuda(), pools()[1], None)


class OnCuda:
    """A pool's face, on a device that this machine may lack."""

    layout = BLOCKS
    device = torch.device("cuda")


def test_a_kernel_never_reaches_for_host_memory_that_is_not_page_locked():
    message = "zero_copy needs a page-locked host pool: use pinned=True"
    with pytest.raises(ValueError, match=f"^{message}$"):
        way_of("zero_copy", OnCuda(), KVPool(BLOCKS, 64), None)
    fast_link = EmulatedLink(10.0, 1000.0)  # `zero_copy` would be the cheapest
    assert way_of("chosen", OnCuda(), KVPool(BLOCKS, 64), fast_link)(OUT, SCATTERED)[0] == "staged"
    pinned = KVPool.pinned_by(RecordingRegistrar(), BLOCKS, 64)
    assert way_of("chosen", OnCuda(), pinned, fast_link)(OUT, SCATTERED)[0] == "zero_copy"


def test_pools_of_other_blocks_are_refused():
    other = KVLayout(4, 4, 32, 4, "float64")
    message = "blocks must have the same num_layers: 8 on the device, 4 on the host"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        way_of("chosen", *pools(BLOCKS, other), EmulatedLink(1.0, 1.0))

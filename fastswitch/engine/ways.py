"""Which way a swap job is copied by: the one that was asked for, or for each job the cheapest.

Ours. "Cheapest" goes by what the job costs on the emulated link where there is one, else by what was measured on this
machine (`fastswitch.kernels.choose_transfer`). A job is told from its runs alone, so equal jobs go the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np

from fastswitch.engine.link import EmulatedLink
from fastswitch.kernels import (
    TRANSFERS,
    TRANSPOSING,
    CopyDirection,
    Transfer,
    TransferCosts,
    staged,
    transfer_costs,
    why_not,
)
from fastswitch.kernels.measure_transfers import CHOICES
from fastswitch.memory import KVLayout, SwapDirection
from fastswitch.memory.pool import KVPool

__all__ = ["CHOSEN", "WayOf", "way_of"]

CHOSEN = "chosen"
# (direction, runs) |-> (name, transfer)
WayOf = Callable[[SwapDirection, np.ndarray], tuple[str, Transfer]]


def way_of(transfer: str | Transfer, device_pool: KVPool, host_pool: KVPool, link: EmulatedLink | None) -> WayOf:
    """How to tell a job's way; measures the machine first if it must.

    Args:
        transfer: a key of ``fastswitch.kernels.TRANSFERS``; ``"chosen"``; or a `Transfer` of one's own.
        device_pool: the device's memory.
        host_pool: the host's.
        link: emulated; None where the link is real.

    Raises:
        ValueError: if the pools' blocks differ in more than their order, or the pools are one; if the way is unknown,
            cannot be taken on this device, or does not copy between these pools; or if a transfer of one's own is to
            cross an emulated link.
    """
    device, host = device_pool.layout, host_pool.layout
    # What is contiguous on the host `staged` would join into one copy again, over the edge where runs were cut.
    transfers = {**TRANSFERS, "staged": partial(staged, host_edge_every=host_pool.blocks_per_piece)}
    for name in ("dtype", "num_layers", "block_size", "num_kv_heads", "head_dim"):
        if getattr(device, name) != getattr(host, name):
            values = f"{getattr(device, name)} on the device, {getattr(host, name)} on the host"
            raise ValueError(f"blocks must have the same {name}: {values}")
    if device_pool is host_pool:
        raise ValueError("device and host need a pool each, got the same one twice")
    if not isinstance(transfer, str):
        if link is not None:
            raise ValueError("the emulated link knows the cost of named transfers only: leave out link")
        return _always(getattr(transfer, "__name__", type(transfer).__name__), transfer)
    if transfer not in (*TRANSFERS, CHOSEN):
        raise ValueError(f"unknown transfer {transfer!r}: known are {', '.join([*TRANSFERS, CHOSEN])}")
    possible = [way for way in TRANSFERS if way in TRANSPOSING or device.order == host.order]
    if device_pool.device.type != "cpu" and not host_pool.pinned:
        # Its kernel would fault on memory that is not page-locked, and no kernel runs in a process after that.
        if transfer == "zero_copy":
            raise ValueError("zero_copy needs a page-locked host pool: use pinned=True")
        possible.remove("zero_copy")
    if transfer == CHOSEN:
        return _cheapest(device_pool, host_pool, link, {way: transfers[way] for way in possible if way in CHOICES})
    if transfer not in possible:
        way_out = f"use {', '.join(TRANSPOSING)} or {CHOSEN}"
        raise ValueError(
            f"{transfer} copies between pools of one order, got {device.order} and {host.order}: {way_out}"
        )
    reason = why_not(transfer, device_pool.device)
    if reason is not None:
        raise ValueError(reason)
    return _always(transfer, transfers[transfer])


def _always(name: str, transfer: Transfer) -> WayOf:
    return lambda _direction, _runs: (name, transfer)


def _cheapest(
    device_pool: KVPool, host_pool: KVPool, link: EmulatedLink | None, possible: Mapping[str, Transfer]
) -> WayOf:
    device, host = device_pool.layout, host_pool.layout
    costs = transfer_costs(device_pool.device) if link is None else None
    if costs is not None and not set(possible) & set(costs.ways["device_to_host"]):
        raise ValueError(why_not(next(iter(possible)), device_pool.device))

    def choose(direction: SwapDirection, runs: np.ndarray) -> tuple[str, Transfer]:
        if costs is not None:
            way = _cheapest_here(costs, direction, runs, device, host, possible)
        else:
            assert link is not None
            way = min(possible, key=lambda each: link.cost_s(each, runs, device.pieces_per_block, device.piece_bytes))
        return way, possible[way]

    return choose


def _cheapest_here(
    costs: TransferCosts,
    direction: SwapDirection,
    runs: np.ndarray,
    device: KVLayout,
    host: KVLayout,
    possible: Iterable[str],
) -> str:
    out = direction is SwapDirection.SWAP_OUT
    num_blocks, host_start = runs[:, 2], runs[:, 1 if out else 0]
    pieces = max(device.pieces_per_block, host.pieces_per_block)
    transposes = device.order != host.order
    num_runs = pieces * (int(num_blocks.sum()) if transposes else len(runs))
    by_host = np.argsort(host_start, kind="stable")
    ends = host_start[by_host] + num_blocks[by_host]
    num_host_runs = 1 + int(np.count_nonzero(host_start[by_host][1:] != ends[:-1]))
    copy_direction: CopyDirection = "device_to_host" if out else "host_to_device"
    return costs.cheapest(
        copy_direction,
        num_runs,
        int(num_blocks.sum()) * device.block_bytes / num_runs,
        num_host_runs=num_host_runs * host.pieces_per_block,
        ways=[way for way in possible if way in costs.ways[copy_direction]],
    )

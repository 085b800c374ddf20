"""A manager and a coordinator over stamped memory, and what must hold of their bytes whatever is done to them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fastswitch.engine import SwapCoordinator
from fastswitch.kernels import TRANSFERS
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, PagedAllocator, SwapDirection
from tests.engine.doubles import FakeClock, stamp_pools
from tests.engine.lazy_streams import LazyStreams
from tests.engine.stress_copies import Copies
from tests.engine.stress_hazards import Arrival, Hazards, SwapHazardError
from tests.engine.stress_pools import Poison, PoisoningAllocator, StampedPool

__all__ = ["BLOCK_SIZE", "Bed", "Setup"]

DEVICE_BLOCKS, BLOCK_SIZE = 64, 2


@dataclass(frozen=True)
class Setup:
    """What a bed is made of."""

    lazy: bool
    host_blocks: int = 96
    allocator: type = BlockGroupAllocator
    order: str = "block_major"
    way: str = "per_run"
    reuse: bool = True
    min_tail: int = 1
    failing: float = 0.1  # of the copies
    deadly: bool = False  # one copy ends its thread
    early: bool = False  # swap-ins may take blocks that swap-outs still read
    hanging: bool = False  # copies that stand still may be taken to hang
    check_every: int = 256  # acts between two looks at the whole

    @classmethod
    def drawn(cls, draws, *, lazy):
        return cls(
            lazy=lazy,
            host_blocks=draws.choice([96, 96, 48, 24]),
            allocator=draws.choice([BlockGroupAllocator, PagedAllocator]),
            order=draws.choice(["block_major", "layer_major"]),
            way=draws.choice(["per_run", "per_block", "batched", "staged"]),
            reuse=draws.random() < 0.7,
            min_tail=draws.choice([1, 4, 64]),
            failing=draws.choice([0.0, 0.1, 0.3]),
            deadly=draws.random() < 0.1,
            early=draws.random() < 0.5,
            hanging=draws.random() < 0.5,
        )


class Bed:
    """What an engine would build.

    Args:
        setup: sizes and kinds.
        make_swaps: called as `SwapCoordinator`.
        make_kv: called as `KVCacheManager`.

    Attributes:
        clock: counts events.
        time: the coordinator's; it passes when a driver says so.
        streams: lazy ones, or None.
        hazards: what was found to be wrong.
        device, host: the memory.
        ways: direction |-> source and destination.
        copies: how copies go.
        kv, swaps: what is tested.
    """

    def __init__(self, setup, make_swaps=SwapCoordinator, make_kv=KVCacheManager):
        self.setup = setup
        self.clock = itertools.count()
        self.time = FakeClock()
        self.streams = LazyStreams() if setup.lazy else None
        self.hazards = Hazards(self.compute, BLOCK_SIZE)
        pools = stamp_pools(DEVICE_BLOCKS, setup.host_blocks, BLOCK_SIZE, setup.order)
        self.device = StampedPool(pools[0], "device", Poison.FREE_DEVICE_BLOCK, Poison.TAKEN_DEVICE_BLOCK)
        self.host = StampedPool(pools[1], "host", Poison.FREE_HOST_BLOCK, Poison.TAKEN_HOST_BLOCK)
        self.ways = {SwapDirection.SWAP_OUT: (self.device, self.host), SwapDirection.SWAP_IN: (self.host, self.device)}
        allocators = [
            PoisoningAllocator(setup.allocator(memory.num_blocks), pool, self.compute, self.clock)
            for memory, pool in zip(pools, (self.device, self.host), strict=True)
        ]
        self.kv = make_kv(*allocators, BLOCK_SIZE, reuse=setup.reuse, min_tail=setup.min_tail)
        allocators[0].still_read = self.kv.still_read
        self.copies = Copies(TRANSFERS[setup.way], self.ways, self.streams)
        self.swaps = make_swaps(*pools, transfer=self.copies, streams=self.streams, clock=self.time)

    def compute(self, work):
        """What the model does on its stream."""
        if self.streams is None:
            work()
        else:
            self.streams.compute.enqueue(work)

    def finish_compute(self):
        """All that was enqueued on the compute stream has run, and what it waits for."""
        if self.streams is not None:
            self.streams.compute.finish()

    def close(self):
        """End the threads, whatever they wait for."""
        self.copies.open_all()
        self.swaps.close()

    def arrivals(self, request_id, stamps, job):
        """What the job's destination must hold when it has landed, by what the manager says of the segments."""
        pool = self.ways[job.direction][1]
        tier = self.kv.host if pool is self.host else self.kv.device
        ends = {entry.segment_id: entry.end_token for entry in job.ranges}
        arrivals, start = [], 0
        for segment_id in self.kv.segment_ids(request_id):
            if segment_id in ends:
                own = stamps[start : start + ends[segment_id]]
                arrivals.append(Arrival(pool, tier.block_ids(segment_id)[: _blocks(len(own))], own))
            start += max(self.kv.device.valid_len(segment_id), self.kv.host.valid_len(segment_id))
        return arrivals

    def expect_arrival(self, flight, when):
        """A reader finds what the job brings."""
        for arrival in flight.arrivals:
            self.hazards.expect(arrival, when, flight)

    def expect_kv(self, request_id, stamps, when):
        """A reader finds both copies of a request, as far as they are said to be right."""
        for tier, pool, num_tokens in (
            (self.kv.device, self.device, self.kv.device_valid_len(request_id)),
            (self.kv.host, self.host, self.kv.host_valid_len(request_id)),
        ):
            if num_tokens > len(stamps):
                raise SwapHazardError(f"{when}: {num_tokens} tokens on the {pool.name}, {len(stamps)} were written")
            if num_tokens:
                tables = [tier.block_ids(segment_id) for segment_id in self.kv.segment_ids(request_id)]
                block_ids = np.concatenate(tables)[: _blocks(num_tokens)]
                self.hazards.expect(Arrival(pool, block_ids, stamps[:num_tokens]), when)

    def check(self):
        """The manager is consistent, and nobody has written to a free block."""
        try:
            self.kv.check_invariants()
        except AssertionError as error:
            raise SwapHazardError(f"the manager's invariants are broken: {error}") from error
        for tier, pool in ((self.kv.device, self.device), (self.kv.host, self.host)):
            groups = [np.arange(start, start + length) for start, length in tier.allocator.free_groups()]
            if groups:
                self.hazards.expect_poison(pool, np.concatenate(groups))

    def check_all_free(self):
        """Nothing is left of anybody, on either tier."""
        self.check()
        self.finish_compute()
        self.hazards.raise_first()
        for tier, pool in ((self.kv.device, self.device), (self.kv.host, self.host)):
            if tier.num_free != tier.allocator.num_blocks:
                raise SwapHazardError(f"{tier.allocator.num_blocks - tier.num_free} {pool.name} blocks have leaked")


def _blocks(num_tokens):
    return -(-num_tokens // BLOCK_SIZE)

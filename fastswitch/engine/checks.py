"""Run-time checks: freed blocks are poisoned, and what must always hold is asserted.

Ours. Greedy tokens alone are a weak witness of a misplaced block; NaN in every block that nobody owns, and
in every block that was handed out and not yet written, is a strong one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import torch
from numpy.typing import NDArray

from fastswitch.engine.engine import Engine
from fastswitch.engine.request import Request
from fastswitch.memory import BlockAllocator, BlockGroup, KVCacheManager, SwapDirection
from fastswitch.memory.pool import KVPool
from fastswitch.sched import RequestState

__all__ = ["InvariantChecker", "PoisoningAllocator", "check_all_free", "check_engine"]


class PoisoningAllocator:
    """An allocator that writes NaN into each block that it hands out or takes back; satisfies ``BlockAllocator``.

    Blocks are taken back when the copies that use them have landed, or handed over while one still reads them: those
    are left alone, so no copy sees the poison.

    Args:
        allocator: does the allocating.
        pool: the memory of its blocks.
    """

    def __init__(self, allocator: BlockAllocator, pool: KVPool) -> None:
        self._allocator = allocator
        self._pool = pool
        self._still_read: Callable[[NDArray[np.int32]], NDArray[np.bool_]] | None = None
        self._poison(np.arange(pool.num_blocks, dtype=np.int32))

    def spare(self, still_read: Callable[[NDArray[np.int32]], NDArray[np.bool_]]) -> None:
        """Leave alone what a copy reads though it was handed over: ``KVCacheManager.still_read`` of the device."""
        self._still_read = still_read

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._allocator.num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that ``allocate`` can still hand out."""
        return self._allocator.num_free

    @property
    def num_reserved(self) -> int:
        """Blocks in reserved tails."""
        return self._allocator.num_reserved

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """The owners that exist."""
        return self._allocator.owners

    def free_groups(self) -> tuple[BlockGroup, ...]:
        """The blocks that nobody owns."""
        return self._allocator.free_groups()

    def num_owned(self, owner: Hashable) -> int:
        """Blocks that ``owner`` holds."""
        return self._allocator.num_owned(owner)

    def allocate(self, owner: Hashable, num_blocks: int) -> tuple[BlockGroup, ...]:
        """Append blocks to ``owner``, poisoned."""
        groups = self._allocator.allocate(owner, num_blocks)
        for group in groups:
            self._poison(np.arange(group.start, group.start + group.num_blocks, dtype=np.int32))
        return groups

    def groups(self, owner: Hashable) -> tuple[BlockGroup, ...]:
        """Maximal contiguous groups, in token order."""
        return self._allocator.groups(owner)

    def block_ids(self, owner: Hashable) -> NDArray[np.int32]:
        """The block table."""
        return self._allocator.block_ids(owner)

    def truncate(self, owner: Hashable, num_blocks: int) -> None:
        """Keep the first blocks, poison the rest."""
        gone = self._allocator.block_ids(owner)[num_blocks:]
        self._allocator.truncate(owner, num_blocks)
        self._poison(gone)

    def split(self, owner: Hashable, at_block: int, new_owner: Hashable) -> None:
        """Blocks from ``at_block`` on change hands, bytes and all."""
        self._allocator.split(owner, at_block, new_owner)

    def free(self, owner: Hashable) -> None:
        """Give everything back, poisoned."""
        gone = self._allocator.block_ids(owner)
        self._allocator.free(owner)
        self._poison(gone)

    def hand_over(self) -> None:
        """Let another thread have the allocator."""
        self._allocator.hand_over()

    def check_invariants(self) -> None:
        """Assert the allocator's invariants."""
        self._allocator.check_invariants()

    def _poison(self, block_ids: NDArray[np.int32]) -> None:
        if self._pool.pinned:
            torch.cuda.synchronize()  # the host writes at once, and a copy that was fenced may still read
        if self._still_read is not None:
            block_ids = block_ids[~self._still_read(block_ids)]
        self._pool.poison(block_ids)


def check_engine(engine: Engine) -> None:
    """Assert that each pool is partitioned, and of ``valid_len`` what one look can tell, on both tiers.

    Raises:
        AssertionError: if the engine is inconsistent, which is a bug of ours.
    """
    engine.kv.check_invariants()
    for request in engine.requests:
        _check_request(engine.kv, request)


def check_all_free(engine: Engine) -> None:
    """Assert that nobody holds a block and nothing is in flight, as when every conversation has ended."""
    assert engine.num_in_flight == 0, f"{engine.num_in_flight} copies are in flight"
    for name, tier in (("device", engine.kv.device), ("host", engine.kv.host)):
        total = tier.allocator.num_blocks
        assert tier.num_free == total, f"{name}: {tier.num_free} of {total} blocks are free"


class InvariantChecker:
    """Watches an engine from its start: ``check`` after each step also sees what changed since the one before.

    Args:
        engine: fresh.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._num_reports = 0
        self._host_valid_len: dict[Hashable, int] = {}  # segment_id |-> at the last check

    def check(self) -> None:
        """As ``check_engine``, and a host copy became no longer than what landed since the last check (§10.4)."""
        check_engine(self._engine)
        kv, reports = self._engine.kv, self._engine.counts.reports
        limit = dict(self._host_valid_len)
        for report in reports[self._num_reports :]:
            if report.job.direction is SwapDirection.SWAP_OUT:
                for entry in report.job.ranges:
                    limit[entry.segment_id] = max(limit.get(entry.segment_id, 0), entry.end_token)
        self._num_reports = len(reports)
        self._host_valid_len = {segment_id: kv.host.valid_len(segment_id) for segment_id in kv.host.segment_ids}
        for segment_id, valid_len in self._host_valid_len.items():
            landed = limit.get(segment_id, 0)
            assert valid_len <= landed, f"segment {segment_id}: {valid_len} tokens on the host, {landed} landed"


def _check_request(kv: KVCacheManager, request: Request) -> None:
    name, state = f"request {request.request_id} ({request.state.value})", request.state
    committed = max(request.device_valid_len, request.host_valid_len)
    assert committed <= request.high_water <= request.num_tokens, (
        f"{name}: {committed} tokens, {request.high_water} made"
    )
    assert request.num_tokens == len(request.tokens), f"{name}: {request.num_tokens} != {len(request.tokens)} tokens"
    if state is RequestState.RUNNING:
        room = kv.device_blocks(request.request_id) * kv.block_size
        assert request.room == room, f"{name}: reckons with room for {request.room} tokens, has {room}"
        valid_len = kv.device_valid_len(request.request_id)
        assert request.valid_len == valid_len, f"{name}: reckons with KV of {request.valid_len} tokens, has {valid_len}"
    moving = state in (RequestState.SWAPPING_IN, RequestState.SWAPPING_OUT)
    assert moving == (request.job is not None), f"{name}: job {request.job}"
    resident = state in (RequestState.RUNNING, RequestState.IDLE, RequestState.WAITING)
    assert resident == kv.is_resident(request.request_id), f"{name}: resident {kv.is_resident(request.request_id)}"
    if state is RequestState.WAITING:
        assert request.device_blocks == 0, f"{name}: holds {request.device_blocks} device blocks"
    if state is RequestState.SWAPPED:
        lacking = request.device_valid_len - request.host_valid_len
        assert lacking <= 0, f"{name}: the host lacks {lacking} tokens"
    assert not (request.protected and request.turn is None), f"{name}: protected with nothing to compute"

"""What all runs of a comparison share, and the parts that a run's row makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastswitch.engine.policy import Policy
from fastswitch.engine.runs import RunSpec
from fastswitch.memory import BlockAllocator, BlockGroupAllocator, KVCacheManager, KVLayout, PagedAllocator
from fastswitch.sched import Scheduler, SwitchCosts

__all__ = ["EngineSpec"]

Wrap = Callable[[BlockAllocator], BlockAllocator]


def _as_it_is(allocator: BlockAllocator) -> BlockAllocator:
    return allocator


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Pools, policy and checks.

    Attributes:
        layout: of the pools; a run sets its order.
        device_blocks, host_blocks: the pools.
        growth_blocks: of the block groups.
        policy: who is served first.
        check: check invariants at each step.
    """

    layout: KVLayout
    device_blocks: int
    host_blocks: int
    growth_blocks: int
    policy: Policy
    check: bool

    def manager(self, run: RunSpec, device: Wrap = _as_it_is, host: Wrap = _as_it_is) -> KVCacheManager:
        """A fresh manager with the run's allocators; ``device`` and ``host`` may wrap them."""
        allocators = device(self._allocator(run, self.device_blocks)), host(self._allocator(run, self.host_blocks))
        return KVCacheManager(*allocators, self.layout.block_size, reuse=run.reuse)

    def scheduler(self, run: RunSpec, costs: SwitchCosts | None = None) -> Scheduler:
        """A fresh scheduler; ``costs`` are what a switch of the run takes."""
        return self.policy.scheduler(copies=run.way is not None, costs=costs)

    def _allocator(self, run: RunSpec, num_blocks: int) -> BlockAllocator:
        if run.allocator == "paged":
            return PagedAllocator(num_blocks)
        return BlockGroupAllocator(num_blocks, growth_blocks=self.growth_blocks)

"""Who owns which block of the KV pools, on which tier, and which bytes are still true.

Imports numpy alone. The pool of tensors, which needs torch, comes from `fastswitch.memory.pool`; pictures, which need
matplotlib, from `fastswitch.memory.plot`.
"""

from fastswitch.memory.allocator import BlockAllocator, OutOfBlocksError, UnknownOwnerError
from fastswitch.memory.block_group import BlockGroup, BlockGroupAllocator
from fastswitch.memory.buddy import BuddyAllocator
from fastswitch.memory.coalesce import coalesce
from fastswitch.memory.cut_runs import cut_runs
from fastswitch.memory.kv_statistics import KVOverTime, KVStatistics, TierStatistics
from fastswitch.memory.layout import KVLayout
from fastswitch.memory.manager import KVCacheManager
from fastswitch.memory.paged import PagedAllocator
from fastswitch.memory.pinned import HostRegistrar, pinned_memory
from fastswitch.memory.roster import UnknownRequestError
from fastswitch.memory.statistics import PoolOverTime, PoolStatistics, pool_statistics
from fastswitch.memory.swap_job import SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.tier import KVCopy, Tier

__all__ = [
    "BlockAllocator",
    "BlockGroup",
    "BlockGroupAllocator",
    "BuddyAllocator",
    "HostRegistrar",
    "KVCacheManager",
    "KVCopy",
    "KVLayout",
    "KVOverTime",
    "KVStatistics",
    "OutOfBlocksError",
    "PagedAllocator",
    "PoolOverTime",
    "PoolStatistics",
    "SegmentRange",
    "SwapDirection",
    "SwapJob",
    "Tier",
    "TierStatistics",
    "UnknownOwnerError",
    "UnknownRequestError",
    "coalesce",
    "cut_runs",
    "pinned_memory",
    "pool_statistics",
]

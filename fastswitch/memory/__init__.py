"""Who owns which block of the KV pools, on which tier, and which bytes are still true.

Imports numpy alone. The pool of tensors, which needs torch, comes from `fastswitch.memory.pool`.
"""

from fastswitch.memory.allocator import BlockAllocator, OutOfBlocksError, UnknownOwnerError
from fastswitch.memory.block_group import BlockGroup, BlockGroupAllocator
from fastswitch.memory.coalesce import coalesce
from fastswitch.memory.layout import KVLayout
from fastswitch.memory.manager import KVCacheManager
from fastswitch.memory.paged import PagedAllocator
from fastswitch.memory.swap_job import SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.tier import KVCopy, Tier

__all__ = [
    "BlockAllocator",
    "BlockGroup",
    "BlockGroupAllocator",
    "KVCacheManager",
    "KVCopy",
    "KVLayout",
    "OutOfBlocksError",
    "PagedAllocator",
    "SegmentRange",
    "SwapDirection",
    "SwapJob",
    "Tier",
    "UnknownOwnerError",
    "coalesce",
]

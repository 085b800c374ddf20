"""Operations on KV blocks as tensors: copy, write, attend, transfer. Nothing here knows a request or an owner."""

from __future__ import annotations

from fastswitch.kernels.attention_plan import AttentionPlan
from fastswitch.kernels.block_copy import (
    copy_blocks,
    copy_blocks_reference,
    gather_blocks,
    gather_blocks_reference,
    scatter_blocks,
    scatter_blocks_reference,
)
from fastswitch.kernels.choose_transfer import choose_transfer, costs_path, remembered_costs, transfer_costs
from fastswitch.kernels.kv_write import write_kv, write_kv_reference
from fastswitch.kernels.merge_attention import merge_attention, merge_attention_reference
from fastswitch.kernels.paged_attention import paged_attention, paged_attention_reference
from fastswitch.kernels.partial_attention import partial_attention, partial_attention_reference
from fastswitch.kernels.transfer import (
    TRANSFERS,
    TRANSPOSING,
    Planes,
    Transfer,
    TransferCount,
    batched,
    per_block,
    per_run,
    staged,
    why_not,
    zero_copy,
)
from fastswitch.kernels.transfer_costs import DIRECTIONS, CopyDirection, TransferCosts, WayCost

__all__ = [
    "DIRECTIONS",
    "TRANSFERS",
    "TRANSPOSING",
    "AttentionPlan",
    "CopyDirection",
    "Planes",
    "Transfer",
    "TransferCosts",
    "TransferCount",
    "WayCost",
    "batched",
    "choose_transfer",
    "copy_blocks",
    "copy_blocks_reference",
    "costs_path",
    "gather_blocks",
    "gather_blocks_reference",
    "merge_attention",
    "merge_attention_reference",
    "paged_attention",
    "paged_attention_reference",
    "partial_attention",
    "partial_attention_reference",
    "per_block",
    "per_run",
    "remembered_costs",
    "scatter_blocks",
    "scatter_blocks_reference",
    "staged",
    "transfer_costs",
    "why_not",
    "write_kv",
    "write_kv_reference",
    "zero_copy",
]

"""What every kernel is launched with in earnest, as calls of its own launcher on tensors of the right strides.

Each function gives the launches of one kernel file, by name. They run where nothing is launched but all is compiled
(`tests.kernels.ahead_of_time`), so only dtypes, strides and addresses of the tensors count.
"""

from __future__ import annotations

import functools
import itertools
import random

import numpy as np
import torch

ARCHITECTURES = ["sm_80", "sm_90", "sm_100", "gfx942"]
FEATURES = ["plain", "rules", "split"]  # rules: a window, a softcap and sinks; split: over two parts, with their merge


def copy_variants():
    """Copies by ids and by runs; ``joined``: of blocks that lie back to back; ``unaligned``: 8 bytes off 16."""
    from fastswitch.kernels._copy_kernel import launch_ids, launch_runs

    ids, on_cpu = torch.zeros(3, dtype=torch.int64), torch.device("cpu")
    runs = np.array([[0, 0, 2], [2, 2, 2]])
    for align, name in ((16, "aligned"), (8, "unaligned"), (4, "unaligned 4")):
        memory = torch.zeros(5, (1 << 15) + 16, dtype=torch.uint8)
        apart = memory[:, 16 - align :][:, : 1 << 15]
        joined = memory.view(-1)[16 - align :][: 4 << 15].view(4, 1 << 15)
        for op, pair in (("gather", (ids, None)), ("scatter", (None, ids)), ("copy", (ids.int(), ids.int()))):
            yield f"copy {op} {name}", functools.partial(launch_ids, [(apart, apart)], *pair, 3, on_cpu)
        for op, blocks in (("runs", apart), ("joined runs", joined)):
            yield f"copy {op} {name}", functools.partial(launch_runs, [(blocks, blocks)], runs, on_cpu)


def write_variants():
    """Writes of kv_write.py: transposed keys as transformers gives them, into views of a pool."""
    from fastswitch.kernels._kv_write_kernel import launch_write

    slots = torch.zeros(5, dtype=torch.int64)
    for dtype, dim, shift, name in (
        (torch.bfloat16, 128, 0, "aligned"),
        (torch.float32, 64, 0, "aligned"),
        (torch.float16, 80, 0, "aligned"),
        (torch.bfloat16, 100, 0, "unaligned rows"),
        (torch.bfloat16, 128, 4, "unaligned addresses"),
    ):
        shape = torch.Size((2, 3, 2, 16, 8, dim))
        pool = torch.zeros(shift + shape.numel(), dtype=dtype)[shift:].view(shape)
        key = torch.zeros(8, 5, dim, dtype=dtype).transpose(0, 1)
        launch = functools.partial(launch_write, key, key, pool[:, 1, 0], pool[:, 1, 1], slots)
        yield f"write {name} {dtype} {dim}".replace("torch.", ""), launch


def attention_variants():
    """Attention and merges: 32 query heads on 8 KV heads but where the name says otherwise."""
    dtypes = (torch.bfloat16, torch.float16, torch.float32)
    for kind, dtype, dim, feature in itertools.product(("decode", "chunk"), dtypes, (64, 128, 256), FEATURES):
        yield _attention(kind, dtype, dim, feature, kv_heads=8, group=4)
    for kind, group, dim, feature in itertools.product(("decode", "chunk"), (1, 8, 64), (80, 128), ("rules", "split")):
        yield _attention(kind, torch.bfloat16, dim, feature, kv_heads=2, group=group)


def _attention(kind, dtype, dim, feature, *, kv_heads, group):
    name = f"{kind} {dtype} {dim} {feature}".replace("torch.", "") + (f" group {group}" if group != 4 else "")
    return name, functools.partial(_attend, kind, dtype, dim, feature, kv_heads, group)


def _attend(kind, dtype, dim, feature, kv_heads, group):
    from fastswitch.kernels import AttentionPlan
    from fastswitch.kernels._attention_launch import attend_in_triton
    from fastswitch.kernels._attention_rules import AttentionRules

    query_lens, seq_lens = ([1, 1, 1], [5, 40, 20]) if kind == "decode" else ([33], [40])
    tables = [np.arange(3, dtype=np.int32) for _ in seq_lens]
    plan = AttentionPlan.build(tables, query_lens, seq_lens, block_size=16, device="cpu")
    pool = torch.zeros(3, 3, 2, 16, kv_heads, dim, dtype=dtype)
    query = torch.zeros(kv_heads * group, sum(query_lens), dim, dtype=dtype).transpose(0, 1)
    rules = AttentionRules(0.1, None, None, None)
    if feature == "rules":
        rules = AttentionRules(0.1, 1000, 50.0, torch.zeros(kv_heads * group, dtype=dtype))
    out = torch.empty(query.shape, dtype=torch.float32 if feature == "split" else dtype)
    lse = torch.empty(query.shape[:2]) if feature == "split" else None
    num_splits = 2 if feature == "split" else 1
    attend_in_triton(query, pool[:, 1, 0], pool[:, 1, 1], plan.index, rules, out, lse, num_splits=num_splits)


def all_variants():
    """Name |-> launch of every kernel."""
    return dict(itertools.chain(copy_variants(), write_variants(), attention_variants()))


def names(amount):
    """(architecture, variant) pairs: ``"all"``, or ``"some"``, of which the attention's are drawn, always the same."""
    every = list(itertools.product(ARCHITECTURES, all_variants()))
    if amount == "all":
        return every
    attention = dict(attention_variants())
    few = [pair for pair in every if pair[1] not in attention]
    main = [pair for pair in every if pair[1] in {"decode bfloat16 128 split", "chunk bfloat16 128 rules"}]
    others = [pair for pair in every if pair not in few and pair not in main]
    return few + main + random.Random(0).sample(others, 8)

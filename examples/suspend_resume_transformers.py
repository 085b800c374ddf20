"""Suspend a transformers request in the middle of its answer, and resume it: the tokens stay the same.

Two requests take turns on a device pool that has room for one. transformers keeps KV in tensors of its own, so here it
is written into a request's blocks before they leave, and read back when they have come. A real engine's attention reads
the blocks where they lie, as `fastswitch.engine.model_executor` has transformers do; nor does it wait for its copies.

    $ PYTHONPATH=. python examples/suspend_resume_transformers.py
    alice: swap_out 10 blocks, 640 KiB
    ...
    alice's and bob's 20 tokens are those of an answer without a break
"""

import torch
from transformers import DynamicCache

from fastswitch.engine import SwapCoordinator
from fastswitch.engine.tiny_model import tiny_llama
from fastswitch.kernels import AttentionPlan, write_kv
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, KVLayout
from fastswitch.memory.pool import KVPool

LAYOUT = KVLayout(num_layers=8, num_kv_heads=4, head_dim=32, block_size=4, dtype="float64")  # of the tiny Llama


def generate(model, tokens, cache, num_tokens):
    """Decode greedily; then ``cache`` has the KV of all tokens but the last."""
    for _ in range(num_tokens):
        ids = torch.tensor([tokens[cache.get_seq_length() :]])
        tokens.append(int(model(ids, past_key_values=cache).logits[0, -1].argmax()))
    return tokens


def write_blocks(cache, pool, kv, request_id):
    """Write the KV that the request's blocks do not have yet."""
    start, end, table = kv.device_valid_len(request_id), cache.get_seq_length(), kv.block_table(request_id)
    plan = AttentionPlan.build([table], [end - start], [end], block_size=LAYOUT.block_size, device=pool.device)
    for i, layer in enumerate(cache.layers):
        key, value = (tensor[0, :, start:].transpose(0, 1) for tensor in (layer.keys, layer.values))
        write_kv(key, value, pool.k(i), pool.v(i), plan.slot_mapping)
    kv.commit(request_id, end)


def read_blocks(pool, kv, request_id):
    """The KV of the request's blocks, as transformers wants it."""
    cache, table, end = DynamicCache(), kv.block_table(request_id), kv.device_valid_len(request_id)
    for i in range(LAYOUT.num_layers):
        key, value = (side[table].flatten(0, 1)[:end].transpose(0, 1)[None] for side in (pool.k(i), pool.v(i)))
        cache.update(key, value, i)
    return cache


def main():
    model, device_pool, host_pool = tiny_llama().requires_grad_(False), KVPool(LAYOUT, 16), KVPool(LAYOUT, 64)
    kv = KVCacheManager(BlockGroupAllocator(16), BlockGroupAllocator(64), LAYOUT.block_size)
    tokens = {"alice": list(range(30)), "bob": list(range(100, 140))}
    unbroken = {name: generate(model, list(prompt), DynamicCache(), 20) for name, prompt in tokens.items()}
    with SwapCoordinator(device_pool, host_pool) as swaps:

        def copy(job):
            report = swaps.copy(job)
            print(f"{job.request_id}: {job.direction.value} {job.num_blocks} blocks, {report.num_bytes >> 10} KiB")

        for name in tokens:
            kv.add(name)
            kv.suspend(name, copy)  # it has nothing yet
        for name in ("alice", "bob", "alice", "bob"):
            kv.resume(name, copy, num_tokens=len(tokens[name]) + 10)
            generate(model, tokens[name], cache := read_blocks(device_pool, kv, name), 10)
            write_blocks(cache, device_pool, kv, name)
            kv.suspend(name, copy)
    assert tokens == unbroken
    print("alice's and bob's 20 tokens are those of an answer without a break")


if __name__ == "__main__":
    main()

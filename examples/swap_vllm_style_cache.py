"""Swap requests of an engine that is not ours: its per-layer KV tensors are adopted, not copied.

Two requests share a device pool that has room for one. When one comes back its copy on the host is kept, so leaving for
the second time moves only what was written since. What comes back is compared with what was written, bit for bit.

    $ PYTHONPATH=. python examples/swap_vllm_style_cache.py
    alice: swap_out 25 blocks in 8 copies
    bob: swap_out 25 blocks in 8 copies
    alice: swap_in 25 blocks in 8 copies
    alice: swap_out 3 blocks in 8 copies
    ...
    every block came back bit for bit
"""

import torch

from fastswitch.engine import SwapCoordinator
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.memory.pool import KVPool

NUM_LAYERS, NUM_BLOCKS, HOST_BLOCKS, BLOCK_SIZE, NUM_KV_HEADS, HEAD_SIZE = 4, 32, 128, 16, 2, 64


def main():
    # As vLLM's FlashAttention backend has them: a tensor a layer, K and V in front.
    layers = [torch.zeros(2, NUM_BLOCKS, BLOCK_SIZE, NUM_KV_HEADS, HEAD_SIZE) for _ in range(NUM_LAYERS)]
    device_pool = KVPool.wrap(layers)
    host_pool = KVPool(device_pool.layout, HOST_BLOCKS)  # where the tensors are on a GPU: pinned=True
    kv = KVCacheManager(BlockGroupAllocator(NUM_BLOCKS), BlockGroupAllocator(HOST_BLOCKS), BLOCK_SIZE)
    # request_id |-> what its KV must be, a layer each
    truth = {name: torch.randn(NUM_LAYERS, 2, 440, NUM_KV_HEADS, HEAD_SIZE) for name in ("alice", "bob")}

    def slots(request_id, start, end):
        """The slots of its tokens ``[start, end)``, as an engine's slot mapping has them."""
        block_ids = torch.from_numpy(kv.block_table(request_id)).long()
        return (block_ids[:, None] * BLOCK_SIZE + torch.arange(BLOCK_SIZE)).flatten()[start:end]

    def compute(request_id, end):
        """The model writes the KV of all tokens in front of ``end`` that have none."""
        start = kv.device_valid_len(request_id)
        kv.grow(request_id, end)
        for layer, right in zip(layers, truth[request_id], strict=True):
            layer.flatten(1, 2)[:, slots(request_id, start, end)] = right[:, start:end]
        kv.commit(request_id, end)

    with SwapCoordinator(device_pool, host_pool) as swaps:

        def move(job):
            report = swaps.copy(job)
            kv.land(job)
            print(f"{job.request_id}: {job.direction.value} {job.num_blocks} blocks in {report.copies} copies")

        def come_back(request_id):
            move(kv.begin_swap_in(request_id, num_tokens=440))
            end = kv.device_valid_len(request_id)
            for layer, right in zip(layers, truth[request_id], strict=True):
                assert torch.equal(layer.flatten(1, 2)[:, slots(request_id, 0, end)], right[:, :end])

        for request_id in truth:
            kv.add(request_id)
            compute(request_id, 400)
            move(kv.begin_swap_out(request_id))
        for request_id in truth:
            come_back(request_id)
            compute(request_id, 440)
            job = kv.begin_swap_out(request_id)
            assert job.num_blocks == 3  # of 28
            move(job)
        for request_id in truth:
            come_back(request_id)
            assert kv.begin_swap_out(request_id) is None  # nothing was written: leaving costs nothing
    print("every block came back bit for bit")


if __name__ == "__main__":
    main()

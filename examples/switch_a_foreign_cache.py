"""Switch requests of an engine that is not ours: its per-layer KV tensors are adopted, not copied.

Two requests share a device pool that has room for one. Whoever comes in takes the other's blocks; what comes back is
compared bit for bit.
"""

import torch

from fastswitch.engine import SwapCoordinator
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.memory.pool import KVPool

BLOCK_SIZE, NUM_LAYERS = 16, 4


def main():
    # A vLLM-shaped cache: a tensor a layer, K and V, blocks, slots, heads, head size.
    layers = [torch.zeros(2, 32, BLOCK_SIZE, 2, 32) for _ in range(NUM_LAYERS)]
    device_pool = KVPool.wrap(layers)
    host_pool = KVPool(device_pool.layout, 128)
    kv = KVCacheManager(BlockGroupAllocator(32), BlockGroupAllocator(128), BLOCK_SIZE)
    written = {}  # request_id |-> what its KV must be

    with SwapCoordinator(device_pool, host_pool) as swaps:

        def move(job):
            if job is not None:
                swaps.submit(job)
                swaps.wait([job])
                for report in swaps.landed():
                    kv.land(report.job)
                    print(f"{job.request_id}: {job.direction.value} {job.num_blocks} blocks in {report.copies} copies")

        for request_id in ("alice", "bob"):
            kv.add(request_id)
            kv.grow(request_id, 400)
            blocks = torch.from_numpy(kv.block_table(request_id)).long()
            for layer in layers:
                layer[:, blocks] = torch.randn(2, len(blocks), BLOCK_SIZE, 2, 32)
            kv.commit(request_id, 400)
            written[request_id] = [layer[:, blocks].clone() for layer in layers]
            move(kv.begin_swap_out(request_id))

        for request_id in ("alice", "bob", "alice"):
            move(kv.begin_swap_in(request_id, 400))
            blocks = torch.from_numpy(kv.block_table(request_id)).long()
            for layer, kept in zip(layers, written[request_id], strict=True):
                assert torch.equal(layer[:, blocks], kept)
            assert kv.begin_swap_out(request_id) is None, "the host copy was kept: leaving again costs nothing"
    print("every block came back bit for bit")


if __name__ == "__main__":
    main()

"""Parallel samples and branching conversations: the common prefix is stored once, on both tiers.

A prompt is forked into samples, one sample into two continuations. All are switched out and come back; what each reads
is compared with what was written, and the blocks are counted against as many separate copies.

    $ PYTHONPATH=. python examples/share_a_prompt.py
    6 requests hold 50 blocks; apart they would hold 207
    prompt: swap_out 32 blocks in 2 runs
    0: swap_out 4 blocks in 1 runs
    ...
    everybody reads what was written
"""

import numpy as np

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, SwapDirection

BLOCK_SIZE, DEVICE_BLOCKS, HOST_BLOCKS = 16, 128, 256


def main():
    # One number a token stands for its KV; a real engine has tensors here.
    pools = {name: np.zeros((n, BLOCK_SIZE)) for name, n in (("device", DEVICE_BLOCKS), ("host", HOST_BLOCKS))}
    kv = KVCacheManager(BlockGroupAllocator(DEVICE_BLOCKS), BlockGroupAllocator(HOST_BLOCKS), BLOCK_SIZE)
    written = {}  # request_id |-> its tokens' KV

    def compute(request_id, tokens):
        """The model writes the KV of the tokens that have none yet."""
        start = kv.device_valid_len(request_id)
        kv.grow(request_id, len(tokens))
        table = kv.block_table(request_id)
        for i in range(start, len(tokens)):
            pools["device"][table[i // BLOCK_SIZE], i % BLOCK_SIZE] = tokens[i]
        kv.commit(request_id, len(tokens))
        written[request_id] = tokens

    def copy(job):
        source, destination = pools["device"], pools["host"]
        if job.direction is SwapDirection.SWAP_IN:
            source, destination = destination, source
        for src, dst, num_blocks in job.runs.tolist():
            destination[dst : dst + num_blocks] = source[src : src + num_blocks]
        print(f"{job.request_id}: {job.direction.value} {job.num_blocks} blocks in {job.num_runs} runs")

    prompt = list(np.random.default_rng(0).random(500))
    kv.add("prompt")
    compute("prompt", prompt)
    for sample in range(4):
        shared = kv.fork("prompt", sample, at_token=500)  # whole blocks: 496 of 500 tokens
        compute(sample, prompt[:shared] + [sample + 1.0] * 60)
    shared = kv.fork(0, "branch", at_token=540)
    compute("branch", written[0][:shared] + [9.0] * 30)

    held = DEVICE_BLOCKS - kv.num_free
    apart = sum(-(-len(tokens) // BLOCK_SIZE) for tokens in written.values())
    assert 4 * held < apart
    print(f"{len(written)} requests hold {held} blocks; apart they would hold {apart}")

    for request_id in written:
        kv.suspend(request_id, copy)
    kv.add("somebody else")
    kv.grow("somebody else", DEVICE_BLOCKS * BLOCK_SIZE)  # takes the whole device
    kv.release("somebody else")
    for request_id, tokens in written.items():
        kv.resume(request_id, copy)
        found = pools["device"][kv.block_table(request_id)].ravel()[: len(tokens)]
        assert found.tolist() == tokens, request_id
    print("everybody reads what was written")


if __name__ == "__main__":
    main()

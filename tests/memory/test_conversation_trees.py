"""Branching conversations: every path of a tree is a request, forked where it leaves the one before it."""

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from tests.memory.stamped_pools import BLOCK_SIZE, Copy, PoisoningAllocator, Tokens, blocks_for, stamps_of

TRACES = os.environ.get("FASTSWITCH_TRACES", "")


def drawn_tree(rng):
    """Messages as (parent, tokens), depth first as in the files: ids count from 0, -1 is no parent."""
    messages = [(-1, rng.randint(1, 40))]
    for _ in range(rng.randint(1, 12)):
        messages.append((rng.randrange(len(messages)), rng.randint(1, 40)))
    return messages


def recorded_trees():
    path = Path(TRACES) / "chat_text" / "oasst_trees_dev.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield [(message["parent"], len(message["text"]) // 4 + 1) for message in json.loads(line)["messages"]]


def replay(messages, rng):
    """One request a message, at the end of its path; returns blocks held, and blocks that apart they would hold."""
    num_blocks = 64 + sum(blocks_for(num_tokens) + 1 for _, num_tokens in messages)
    device, host = (PoisoningAllocator(BlockGroupAllocator(num_blocks)) for _ in range(2))
    kv = KVCacheManager(device, host, BLOCK_SIZE)
    paths = {}  # message |-> what its request's KV must be

    def copy(job):
        transfer = Copy(job, device, host)
        transfer.move(len(transfer.todo))

    for message, (parent, num_tokens) in enumerate(messages):
        if parent < 0:
            kv.add(message)
            paths[message] = Tokens()
        else:
            if not kv.is_resident(parent):
                kv.resume(parent, copy)
            shared = kv.fork(parent, message, paths[parent].kept)
            paths[message] = Tokens(paths[parent].stamps[:shared])
        start = paths[message].kept
        kv.grow(message, start + num_tokens)
        paths[message].write(device, kv.block_table(message), start, start + num_tokens)
        kv.commit(message, start + num_tokens)
        victim = rng.randrange(message + 1)
        if kv.is_resident(victim):
            kv.suspend(victim, copy)
    for message, tokens in paths.items():
        if not kv.is_resident(message):
            kv.resume(message, copy)
        found = [stamp for part in kv.device_copy(message) for stamp in stamps_of(device, part)]
        assert found == tokens.stamps
    kv.check_invariants()
    held = num_blocks - kv.num_free
    for message in rng.sample(sorted(paths), len(paths)):
        kv.release(message)
    assert device.num_free == host.num_free == num_blocks
    return held, sum(blocks_for(tokens.kept) for tokens in paths.values())


@pytest.mark.parametrize("seed", range(20))
def test_drawn_trees_are_stored_once(seed):
    rng = random.Random(seed)
    messages = drawn_tree(rng)
    held, apart = replay(messages, rng)
    # Besides its new tokens a request may hold one block more, for what its fork rounded down.
    assert held <= sum(blocks_for(num_tokens) + 1 for _, num_tokens in messages)
    assert held <= apart


@pytest.mark.skipif(not TRACES, reason="FASTSWITCH_TRACES names no folder")
def test_recorded_trees_are_stored_once():
    rng = random.Random(0)
    held, apart = map(sum, zip(*(replay(messages, rng) for messages in recorded_trees()), strict=True))
    assert held < 0.6 * apart

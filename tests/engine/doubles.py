"""Stand-ins for a clock, a model and a link, so that an engine's test decides when what happens."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import numpy as np

from fastswitch.engine import SwapReport
from fastswitch.kernels import per_run
from fastswitch.memory import KVLayout, SwapDirection
from fastswitch.memory.pool import KVPool

VOCABULARY = 2**31
STAMPS = 4  # integers of KV a token: 2 layers x K and V
_WEIGHTS = np.random.default_rng(0).integers(1, 2**62, size=(512, STAMPS), dtype=np.int64)


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.seconds = 0.0
        self.skipped_s = 0.0

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds

    def skip_to(self, when):
        self.skipped_s += max(0.0, when - self.seconds)
        self.seconds = max(when, self.seconds)


def stamps(tokens, start=0):
    """The "KV" of tokens at positions ``start`` and up: ``[n, STAMPS]``, all different."""
    tokens, positions = np.asarray(tokens, np.int64), np.arange(start, start + len(tokens))
    return (tokens * 1_000_003 + positions * 101 + 7)[:, None] * STAMPS + np.arange(STAMPS)


def next_token(kv):
    """A hash of all the KV that a model would attend to; any byte that is not right changes it."""
    return int((kv * _WEIGHTS[: len(kv)]).sum() & (2**62 - 1)) % VOCABULARY


def answer(history, num_tokens):
    """What an engine that never switches answers."""
    tokens = list(history)
    for _ in range(num_tokens):
        tokens.append(next_token(stamps(tokens)))
    return tokens[len(history) :]


class StampExecutor:
    """A model of integers: tokens go to their blocks as stamps, the next one is a hash of all the stamps read back.

    Args:
        pool: of ``stamp_layout``.
        clock: told to let ``iteration_s`` pass in each iteration, if given.
    """

    def __init__(self, pool, *, max_context=512, clock=None, iteration_s=0.0):
        self.max_context = max_context
        self.vocab_size = VOCABULARY
        self.batches = []
        self._blocks = pool.blocks.flatten(1, 2)[..., 0, 0].numpy()  # [num_blocks, STAMPS, block_size]
        self._block_size = pool.layout.block_size
        self._clock = clock
        self._iteration_s = iteration_s

    def run(self, batch):
        self.batches.append(list(batch))
        if self._clock is not None:
            self._clock.sleep(self._iteration_s)
        return [self._compute(entry) for entry in batch]

    def _compute(self, entry):
        end = entry.start + entry.num_tokens
        positions = np.arange(end)
        block_table = entry.block_table
        blocks, offsets = block_table[positions // self._block_size], positions % self._block_size
        new = slice(entry.start, end)
        self._blocks[blocks[new], :, offsets[new]] = stamps(entry.token_ids, entry.start)
        return next_token(self._blocks[blocks, :, offsets]) if entry.samples else None


def stamp_layout(block_size, order="block_major"):
    return KVLayout(num_layers=2, num_kv_heads=1, head_dim=1, block_size=block_size, dtype="int64", order=order)


def stamp_pools(device_blocks, host_blocks, block_size, order="block_major"):
    layout = stamp_layout(block_size, order)
    return KVPool(layout, device_blocks), KVPool(layout, host_blocks)


class HeldSwaps:
    """Jobs stay in flight until the test lands or fails them; only then are the bytes read. Satisfies ``Swaps``."""

    def __init__(self, device_pool, host_pool):
        self.jobs = deque()
        self.stall_s = 0.0
        self._planes = {
            SwapDirection.SWAP_OUT: (device_pool.planes, host_pool.planes),
            SwapDirection.SWAP_IN: (host_pool.planes, device_pool.planes),
        }
        self._ended = []

    def submit(self, job):
        self.jobs.append(job)
        return Future()

    def land(self, index=0):
        job = self.jobs[index]
        for before in [each for each in job.after if each in self.jobs]:
            self.land(self.jobs.index(before))
        self.jobs.remove(job)
        count = per_run(*self._planes[job.direction], job.runs)
        self._ended.append(SwapReport(job, "held", count.num_bytes, count.copies, count.calls))

    def fail(self, index=0):
        job = self.jobs[index]
        del self.jobs[index]
        source, destination = self._planes[job.direction]
        if not any(before in self.jobs for before in job.after):  # else it has not begun
            per_run(source, destination, job.runs[:1])  # half-way
        self._ended.append(SwapReport(job, "held", error=OSError("the link broke")))

    def landed(self):
        ended, self._ended = self._ended, []
        return ended

    def lost(self):
        return []

    def wait(self, jobs):
        for job in jobs:
            if job in self.jobs:
                self.land(self.jobs.index(job))

    def wait_any(self, timeout_s):
        if self.jobs and not self._ended:
            self.land()

    def close(self):
        pass

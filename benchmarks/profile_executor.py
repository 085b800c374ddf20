"""Where an iteration of decodes goes: the model's own share, ours, and what the host's Python does in it.

Run: ``python benchmarks/profile_executor.py``: llama-3-8b-shapes on a GPU, 32 requests with 500 tokens each;
``--model tiny`` where there is none. Iterations end with their tokens, so the device is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import pstats
import statistics
import time

import numpy as np
import torch

from fastswitch.engine.attention import PagedContext
from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.model_executor import ModelExecutor, kv_layout
from fastswitch.engine.models import load_model
from fastswitch.memory.pool import KVPool

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ITERATIONS = 20
BLOCK_SIZE = 16


@contextlib.contextmanager
def without_attention():
    """Writes no KV and attends to nothing: what is left of an iteration is not ours."""
    before, PagedContext.attend = PagedContext.attend, attend_to_nothing
    try:
        yield
    finally:
        PagedContext.attend = before


def attend_to_nothing(_self, _layer, query, _key, _value, _options):
    return torch.zeros_like(query, memory_format=torch.contiguous_format)


def decodes(pool, num_requests, context):
    """One token behind ``context`` of each request; their blocks lie scattered."""
    each = pool.layout.blocks_for(context + 1)
    tables = np.random.default_rng(0).permutation(pool.num_blocks).astype(np.int32).reshape(num_requests, each)
    sources = [KnownTokens([index], table, first=context) for index, table in enumerate(tables)]
    return [BatchEntry(index, context, 1, samples=True, source=source) for index, source in enumerate(sources)]


def milliseconds(executor, batch, iterations):
    """Median of an iteration, after a warm-up."""
    times = []
    for _ in range(3 + iterations):
        start = time.perf_counter()
        executor.run(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:]) * 1e3


def top_of_python(executor, batch, iterations, lines):
    """The functions that the host spends most time in, callees not counted."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(iterations):
        executor.run(batch)
    profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(lines)
    rows = text.getvalue().splitlines()
    head = next(index for index, row in enumerate(rows) if "ncalls" in row)
    short = (row.replace("site-packages/", "").rsplit("/lib/", 1) for row in rows[head:] if row.strip())
    return ["".join((row[0][:46], row[-1][-70:]) if len(row) > 1 else row)[:118] for row in short]


def on_the_device(executor, batch):
    """Kernels launched by an iteration, the time they take, and the five that take most of it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        executor.run(batch)
    kernels = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) / 1e3
    yield f"on the device: {sum(event.count for event in kernels)} kernels and copies, {total:.2f} ms"
    for event in kernels[:8]:
        yield f"  {event.self_device_time_total / 1e3:7.2f} ms {event.count:5} x {event.key[:90]}"


def main():
    parser = argparse.ArgumentParser(description="Where an iteration of decodes goes.")
    parser.add_argument("--model", default="llama-3-8b-shapes" if DEVICE == "cuda" else "tiny")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--context", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    arguments = parser.parse_args()
    loaded = load_model(arguments.model, device=DEVICE, dtype=None, random_weights=False, seed=0)
    layout = kv_layout(loaded.model, BLOCK_SIZE, "block_major")
    pool = KVPool(layout, arguments.requests * layout.blocks_for(arguments.context + 1), DEVICE)
    pool.fill(np.arange(pool.num_blocks), 0.0)
    batch = decodes(pool, arguments.requests, arguments.context)
    executor = ModelExecutor(loaded.model, pool)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    print(f"{name}, {loaded.name} {layout.dtype}, {arguments.requests} decodes behind {arguments.context} tokens")
    print(f"an iteration: {milliseconds(executor, batch, arguments.iterations):.2f} ms")
    with without_attention():
        print(f"without our attention and KV writes: {milliseconds(executor, batch, arguments.iterations):.2f} ms")
    if DEVICE == "cuda":
        print("\n".join(on_the_device(executor, batch)))
    print(f"the host's Python, {arguments.iterations} iterations under a profiler:")
    print("\n".join(top_of_python(executor, batch, arguments.iterations, 25)))


if __name__ == "__main__":
    main()

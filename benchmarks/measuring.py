"""How the kernels' benchmarks time a call, and what they write beside the time.

On a CPU one torch thread. On CUDA a kernel's time is the device's own: its events are recorded while the device still
works on something else, so that what the host does before the launch is hidden as it is in an engine that runs ahead;
the L2 is cold. A transfer's time is the clock's, from the call to the end of its copies: issuing them is part of it.
"""

from __future__ import annotations

import functools
import os
import statistics
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Few points and small memories, to see that everything works: `make gpu` where there is no GPU, and the tests.
MINIATURE = bool(os.environ.get("BENCH_MINIATURE"))
ROUNDS = 3 if MINIATURE else 7
CEILING_BYTES = (4 << 20) if MINIATURE else (256 << 20) if DEVICE == "cuda" else (128 << 20)
L2_BYTES = 256 << 20  # several times the L2 of an H200
AHEAD_CYCLES = 40_000_000  # some 20 ms, in which the host checks and enqueues

if DEVICE == "cpu":
    torch.set_num_threads(1)


def device_name():
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def measure(benchmark, call, *, group, num_bytes, stream=None, timed=None, ceiling=None, **facts):
    """Time the call; ``num_bytes`` are those read and written, ``facts`` go beside: dtype, shape, way.

    Args:
        stream: a CUDA stream to call on; None: the current one.
        timed: (call, stream) |-> seconds, for GB/s; None: `kernel_seconds`. On a CPU it is the clock.
        ceiling: () |-> GB/s of what the call is a share of; None: `copy_speed`.
    """
    benchmark.group = f"{group} {DEVICE}"
    benchmark.pedantic(lambda: _run(call, stream), setup=cool_down, rounds=ROUNDS, warmup_rounds=1)
    info = benchmark.extra_info
    info.update({"device": device_name(), "miniature": MINIATURE, "num_bytes": num_bytes, **facts})
    if benchmark.stats is not None:
        on_gpu = timed or kernel_seconds
        seconds = benchmark.stats.stats.min if DEVICE == "cpu" else on_gpu(call, stream)
        info["us"] = round(seconds * 1e6, 2)
        info["GB/s"] = round(num_bytes / seconds / 1e9, 2)
        info["of ceiling"] = round(num_bytes / seconds / 1e9 / (ceiling or copy_speed)(), 3)


@functools.cache
def copy_speed():
    """GB/s, read and written, of one large copy within the device's memory: a memcpy on a CPU."""
    return 2 * _big_copy_speed("device_to_device")


@functools.cache
def link_speed(direction):
    """GB/s of one large memcpy between pinned host memory and the device; on a CPU within one memory."""
    return _big_copy_speed(direction)


def _big_copy_speed(direction):
    def memory(place):
        if place == "device":
            return torch.ones(CEILING_BYTES, dtype=torch.uint8, device=DEVICE)
        return torch.ones(CEILING_BYTES, dtype=torch.uint8, pin_memory=DEVICE == "cuda")

    src, dst = (memory(place) for place in direction.split("_to_"))
    seconds = min(transfer_seconds(lambda: dst.copy_(src, non_blocking=True)) for _ in range(2))
    return CEILING_BYTES / seconds / 1e9


def kernel_seconds(call, stream=None):
    """Median seconds that the device is busy with the call."""
    return statistics.median(_event_seconds(call, stream or torch.cuda.current_stream()) for _ in range(ROUNDS))


def transfer_seconds(call, stream=None):
    """Median seconds from the call, on an idle device, to the end of what it has enqueued."""
    times = []
    for _ in range(ROUNDS):
        cool_down()
        start = time.perf_counter()
        _run(call, stream)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cool_down():
    """Nothing of what was touched before is in the L2, and the device is idle."""
    if DEVICE == "cuda":
        torch.empty(L2_BYTES, dtype=torch.uint8, device="cuda").zero_()
        torch.cuda.synchronize()


def _run(call, stream):
    if DEVICE == "cpu":
        call()
        return
    with torch.cuda.stream(stream or torch.cuda.current_stream()):
        call()
    torch.cuda.synchronize()


def _event_seconds(call, stream):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    cool_down()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(AHEAD_CYCLES)  # noqa: SLF001 - torch has no public way to keep a device busy
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3

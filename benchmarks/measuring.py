"""How the kernels' benchmarks time a call, and what they write beside the time.

On a CPU one torch thread. On CUDA the clock starts on an idle device and stops when the work is done, with a cold L2;
since a launch alone takes some 10 us of that, the device's own time is measured too, with events, and GB/s is by it.
"""

from __future__ import annotations

import os
import statistics

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Few points and small memories, to see that everything works: `make gpu` where there is no GPU, and the tests.
MINIATURE = bool(os.environ.get("BENCH_MINIATURE"))
ROUNDS = 3 if MINIATURE else 7
L2_BYTES = 256 << 20  # several times the L2 of an H200

if DEVICE == "cpu":
    torch.set_num_threads(1)


def device_name():
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def measure(benchmark, call, *, group, num_bytes, stream=None, **facts):
    """Time the call; ``num_bytes`` are those read and written, ``facts`` go beside: dtype, shape, way.

    Args:
        stream: a CUDA stream to call on; None: the current one.
    """
    benchmark.group = f"{group} {DEVICE}"
    benchmark.pedantic(lambda: _run(call, stream), setup=cool_down, rounds=ROUNDS, warmup_rounds=1)
    info = benchmark.extra_info
    info.update({"device": device_name(), "num_bytes": num_bytes, **facts})
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.min if DEVICE == "cpu" else device_seconds(call, stream)
        info["us"] = round(seconds * 1e6, 2)
        info["GB/s"] = round(num_bytes / seconds / 1e9, 2)


def device_seconds(call, stream=None):
    """Median seconds of a call by CUDA events, each with a cold L2."""
    times = []
    for _ in range(ROUNDS):
        cool_down()
        times.append(_event_seconds(call, stream or torch.cuda.current_stream()))
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
    with torch.cuda.stream(stream):
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3

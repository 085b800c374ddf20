"""Measure what the ways of copying cost here, in under half a second.

Ours. Two pools of scattered rows in one order, a few sizes of runs, every way that works here in both directions; a
time is the best of a few, from the call to the end of the copies. Compiling kernels and touching memory come before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from fastswitch.kernels._planes import Planes
from fastswitch.kernels.transfer import TRANSFERS, why_not
from fastswitch.kernels.transfer_costs import DIRECTIONS, TransferCosts, WayCost

__all__ = ["CHOICES", "measure_costs"]

# `per_block` is not among them: it issues the same kind of call as `per_run`, and never fewer.
CHOICES = ("per_run", "batched", "zero_copy", "staged")
REPEATS = 3
# A job's bytes: long enough to tell from noise, short enough for the budget. 16 MiB cross a 50 GB/s link in 0.3 ms, and
# are copied in 2 ms on one CPU core, where the plateau begins at 256 KiB a piece.
JOB_BYTES = {"cuda": 16 << 20, "cpu": 2 << 20}
RUN_BYTES = {
    "cuda": (4096, 8192, 16384, 32768, 65536, 262144, 1 << 20, 4 << 20),
    "cpu": (4096, 16384, 65536, 262144, 1 << 20),
}
MOST_RUNS = 256
ROW_BYTES = 4096


def measure_costs(device: torch.device, machine: dict[str, str]) -> TransferCosts:
    """Time every way that works between ``device`` and the host.

    On a CPU both directions are the same copies, and measured once.

    Args:
        device: a CUDA device, or the CPU.
        machine: kept in the table.
    """
    kind = device.type
    rows = 2 * JOB_BYTES[kind] // ROW_BYTES
    on_device = torch.zeros((rows, ROW_BYTES), dtype=torch.uint8, device=device)
    on_host = torch.zeros((rows, ROW_BYTES), dtype=torch.uint8, pin_memory=kind == "cuda")
    ways = [way for way in CHOICES if why_not(way, device) is None]
    stream = torch.cuda.Stream(device) if kind == "cuda" else None  # type: ignore[no-untyped-call]
    measured = {}
    for direction in DIRECTIONS[: 1 if kind == "cpu" else 2]:
        out = direction == "device_to_host"
        src, dst = ((on_device,), (on_host,)) if out else ((on_host,), (on_device,))
        measured[direction] = {way: _measure(way, src, dst, stream, host_is_source=not out) for way in ways}
    if kind == "cpu":
        measured[DIRECTIONS[1]] = measured[DIRECTIONS[0]]
    return TransferCosts(machine, measured)


def _measure(way: str, src: Planes, dst: Planes, stream: torch.cuda.Stream | None, *, host_is_source: bool) -> WayCost:
    kind = "cpu" if stream is None else "cuda"
    sizes = RUN_BYTES[kind]

    def seconds(num_runs: int, run_bytes: int) -> float:
        runs = _scattered(num_runs, run_bytes // ROW_BYTES, len(src[0]))
        if way == "staged":
            runs = _scattered_on_device(runs, host_is_source=host_is_source)
        return _best_s(lambda: TRANSFERS[way](src, dst, runs), stream)

    counts = [min(MOST_RUNS, JOB_BYTES[kind] // size) for size in sizes]
    one, many = seconds(1, sizes[0]), seconds(counts[0], sizes[0])
    smallest = max((many - one) / (counts[0] - 1), many / counts[0] * 1e-3)
    job = max(0.0, one - smallest)
    times = [smallest]
    for size, count in zip(sizes[1:], counts[1:], strict=True):
        whole = seconds(count, size)
        times.append(max((whole - job) / count, whole / count * 1e-3))
    return WayCost(job, sizes, tuple(times))


def _scattered(num_runs: int, length: int, num_rows: int) -> np.ndarray:
    """Runs of ``length`` rows, in a fixed random order on both sides, no two adjacent."""
    places = np.arange(num_rows // (2 * length))[:num_runs] * 2 * length
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(places), rng.permutation(places), np.full(len(places), length)], axis=1)


def _scattered_on_device(runs: np.ndarray, *, host_is_source: bool) -> np.ndarray:
    """The same host ranges, each in single rows that lie scattered in the other pool."""
    host, device = (0, 1) if host_is_source else (1, 0)
    length = int(runs[0, 2])
    single = np.repeat(runs, length, axis=0)
    single[:, host] += np.tile(np.arange(length), len(runs))
    single[:, device] = np.random.default_rng(1).permutation(len(single)) * 2
    single[:, 2] = 1
    return single


def _best_s(work: Callable[[], object], stream: torch.cuda.Stream | None) -> float:
    work_s: list[float] = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        if stream is None:
            work()
        else:
            with torch.cuda.stream(stream):
                work()
            stream.synchronize()
        work_s.append(time.perf_counter() - start)
    return min(work_s[1:])

"""With how many programs, words and warps the copy kernel is fastest: across the link, and within a pool.

Run: ``python benchmarks/sweep_zero_copy.py [--json FILE]``, some 25 s on a GPU. Times are the device's own, by events
behind a short sleep that hides the launch; what the host takes for a whole call of `zero_copy` stands in the last
column. A cell is a share of one large memcpy. Where there is no GPU, ``TRITON_INTERPRET=1`` runs it in miniature.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import statistics
import time
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ["BENCH_MINIATURE"] = "1"

import bench_block_copy
from bench_transfer import KIB, MIB, Case, make_sides
from measuring import DEVICE, MINIATURE, copy_speed, device_name, link_speed

from fastswitch.kernels import DIRECTIONS, _copy_kernel, gather_blocks, scatter_blocks, zero_copy
from fastswitch.kernels._planes import check_transfer
from fastswitch.kernels._triton import INTERPRETED

ROUNDS = 1 if MINIATURE else 7
AHEAD_CYCLES = 4_000_000  # some 2 ms
PROGRAMS = (2, 3) if MINIATURE else (8, 12, 16, 24, 32, 48, 64, 132)
# (words of 8 bytes a program moves at a time, warps); the first is what runs today
SHAPES = ((4096, 4), (4096, 8), (2048, 8))
POOL_SHAPES = ((4096, 4), (4096, 8), (2048, 4), (2048, 8), (1024, 4), (8192, 8))
# name, planes, bytes of a piece, blocks: 64 MiB each
CASES = [
    Case("8KiB", 64, 8 * KIB, 128, 1, "both"),
    Case("32KiB", 64, 32 * KIB, 32, 1, "both"),
    Case("64KiB", 1, 64 * KIB, 1024, 1, "both"),
    Case("2MiB", 1, 2 * MIB, 32, 1, "both"),
]
POOL_SIZES = ("8KiB",) if MINIATURE else ("32KiB", "256KiB")


@contextlib.contextmanager
def launched_with(words, warps):
    """The copy kernel moves so many words at a time, with so many warps; smaller pieces take as many words a warp."""
    before = _copy_kernel.TILE_WORDS, _copy_kernel.WORDS_PER_WARP
    _copy_kernel.TILE_WORDS, _copy_kernel.WORDS_PER_WARP = words, words // warps
    try:
        yield
    finally:
        _copy_kernel.TILE_WORDS, _copy_kernel.WORDS_PER_WARP = before


def device_seconds(call):
    """Median seconds that the device takes; the first call, which may compile, is not counted."""
    times = []
    for _ in range(1 + ROUNDS):
        if DEVICE == "cpu":
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD_CYCLES)  # noqa: SLF001 - torch has no public way to keep a device busy
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times[1:])


def host_us(call):
    """Median microseconds until the call returns, with nothing to wait for."""
    times = []
    for _ in range(1 + ROUNDS):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) * 1e6


def sweep_link():
    """Every number of programs, for pieces of four sizes in both directions."""
    for case, direction in ((case, direction) for case in CASES for direction in DIRECTIONS):
        small = case._replace(num_planes=min(case.num_planes, 2), num_blocks=2, plane_bytes=8 * KIB)
        case = small if MINIATURE else case  # noqa: PLW2901
        src, dst, runs = make_sides(case, direction)
        pairs = check_transfer(src, dst, runs, transposes=True)
        host = host_us(lambda s=src, d=dst, r=runs: zero_copy(s, d, r))
        for words, warps in SHAPES[: 1 if MINIATURE else None]:
            launch = functools.partial(_copy_kernel.launch_runs, pairs, runs, torch.device(DEVICE))
            with launched_with(words, warps):
                seconds = {n: device_seconds(functools.partial(launch, num_programs=n)) for n in PROGRAMS}
            check_moved(src, dst, runs)
            shares = {n: case.num_bytes / s / 1e9 / link_speed(direction) for n, s in seconds.items()}
            yield {"op": "link", "piece": case.name, "direction": direction, "words": words, "warps": warps} | {
                "host_us": host,
                "shares": shares,
            }


def check_moved(src, dst, runs):
    """No speed is reported of a copy that is wrong."""
    start, end, length = runs[-1].tolist()
    assert torch.equal(dst[-1][end : end + length].cpu(), src[-1][start : start + length].cpu())


def sweep_pool():
    """Gathers and scatters of a quarter of a pool, by words and warps."""
    for size in POOL_SIZES:
        for layout in ("block_major", "layer_major"):
            pool, ids = bench_block_copy.make_pool(layout, bench_block_copy.BLOCKS[size])
            ids = ids[: 2 if MINIATURE else None].to(DEVICE)
            blocks = gather_blocks(pool, ids)
            assert bench_block_copy.same(blocks, pool[ids])
            calls = {
                "gather": lambda p=pool, i=ids, b=blocks: gather_blocks(p, i, out=b),
                "scatter": lambda p=pool, i=ids, b=blocks: scatter_blocks(b, p, i),
            }
            for op, call in calls.items():
                shares = {}
                for words, warps in POOL_SHAPES[: 1 if MINIATURE else None]:
                    with launched_with(words, warps):
                        speed = 2 * blocks.nbytes / device_seconds(call) / 1e9
                    shares[f"{words}/{warps}"] = speed / copy_speed()
                yield {"op": op, "piece": size, "layout": layout, "shares": shares}


def show(points):
    """Each as it comes, and then hand it on; at most 40 lines in all."""
    print("link, share of one memcpy | programs", *(f"{n:>5}" for n in PROGRAMS), "| host us of zero_copy")
    pool = False
    for point in points:
        if point["op"] == "link":
            where = f"{point['piece']:>5} {point['direction']:14} {point['words']:>4} words {point['warps']} warps"
            after = f"| {point['host_us']:.0f}"
        else:
            if not pool:
                print("pool, share of a device copy | words/warps", *point["shares"])
            pool, where, after = True, f"{point['op']:7} {point['piece']:>6} {point['layout']}", ""
        print(where, *(f"{share:5.2f}" for share in point["shares"].values()), after, flush=True)
        yield point


def main():
    parser = argparse.ArgumentParser(description="How the copy kernel is launched best.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if DEVICE == "cpu" and not INTERPRETED:
        print("sweep_zero_copy needs a CUDA device, or TRITON_INTERPRET=1 for a miniature: nothing was run")
        return
    start = time.perf_counter()
    if DEVICE == "cuda":
        print(f"{device_name()}, link {link_speed(DIRECTIONS[0]):.1f} and {link_speed(DIRECTIONS[1]):.1f} GB/s")
    points = []
    try:
        points.extend(show(itertools.chain(sweep_link(), sweep_pool())))
        print(f"in {time.perf_counter() - start:.0f} s{', in miniature: no number is a figure' if MINIATURE else ''}")
    finally:
        if arguments.json:
            data = {"device": device_name(), "miniature": MINIATURE, "points": points}
            arguments.json.write_text(json.dumps(data, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

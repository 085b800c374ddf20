"""What ``fastswitch calibrate`` does: measure the ways of copying on this machine, remember, print and draw them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastswitch.engine.clock import RealClock
from fastswitch.engine.environment import environment
from fastswitch.engine.plot_costs import plot_costs
from fastswitch.engine.usage import UsageError, check_distinct, check_writable
from fastswitch.kernels import DIRECTIONS, TRANSFERS, CopyDirection, TransferCosts, transfer_costs, why_not

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["COUNTS", "SIZES", "run_calibrate"]

# The jobs of the printed map: copies in a job, and bytes of one.
COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
SIZES = (4096, 8192, 16384, 32768, 65536, 262144, 1 << 20, 4 << 20)


def run_calibrate(*, device: str | None, json_path: Path | None, plot_path: Path | None, command: str) -> None:
    """Measure anew, write it where `choose_transfer` looks, and print the table and the cheapest way of each job.

    Raises:
        UsageError: if the device is not there, or a file cannot be written.
    """
    from rich.console import Console

    chosen = _device(device)
    check_distinct({"json": json_path, "plot": plot_path}, {})
    for path in (json_path, plot_path):
        check_writable(path)
    if plot_path is not None and plot_path.suffix.lower() != ".png":
        raise UsageError(f"--plot must name a .png file, got {plot_path}")
    clock = RealClock()
    if chosen.type == "cuda":
        transfer_costs(chosen, anew=True)  # compiles the kernels, which is not what is timed
    start = clock.now()
    costs = transfer_costs(chosen, anew=True)
    seconds = clock.now() - start
    if json_path is not None:
        facts = {"schema": 1, "command": command, "environment": environment(chosen), "seconds": seconds}
        json_path.write_text(json.dumps({**facts, **costs.as_json()}, indent=1) + "\n", encoding="utf-8")
    if plot_path is not None:
        plot_costs(costs, f"{costs.machine['device']}, {command}", plot_path)
    _print(costs, chosen, seconds, Console(width=None if sys.stdout.isatty() else 120))


def _device(name: str | None) -> torch.device:
    if name not in (None, "cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda needs a CUDA GPU and a CUDA build of torch, found none: use --device cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _print(costs: TransferCosts, device: torch.device, seconds: float, console: Console) -> None:
    where = "" if device.type == "cuda" else ": both tiers are one memory here, so there is no link to be faster on"
    console.print(f"{costs.machine['device']}, measured in {seconds:.2f} s{where}", highlight=False)
    for direction in DIRECTIONS[: 2 if device.type == "cuda" else 1]:
        _print_costs(costs, direction, console)
        _print_map(costs, direction, console)
    for way in TRANSFERS:
        reason = why_not(way, device)
        if reason is not None:
            console.print(f"not measured: {reason}", highlight=False)


def _print_costs(costs: TransferCosts, direction: CopyDirection, console: Console) -> None:
    from rich.table import Table

    console.print(f"\n{_title(direction)}: microseconds a job, and a copy of each size; GB/s of the largest")
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    sizes = next(iter(costs.ways[direction].values())).run_bytes
    for head in ("way", "a job", *(_size(size) for size in sizes), "GB/s"):
        table.add_column(head, justify="left" if head == "way" else "right")
    for way, cost in costs.ways[direction].items():
        times = (f"{s * 1e6:.2f}" for s in (cost.job_s, *cost.run_s))
        table.add_row(way, *times, f"{cost.bytes_per_s / 1e9:.1f}")
    console.print(table)


def _print_map(costs: TransferCosts, direction: CopyDirection, console: Console) -> None:
    """The cheapest way of each job; for ``staged`` the host's side is taken to be as scattered as the device's."""
    from rich.table import Table

    console.print(f"\n{_title(direction)}: the cheapest way, by copies in a job (down) and bytes of one (across)")
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for head in ("", *map(_size, SIZES)):
        table.add_column(head)
    for count in COUNTS:
        table.add_row(str(count), *(costs.cheapest(direction, count, size) for size in SIZES))
    console.print(table)


def _title(direction: CopyDirection) -> str:
    return direction.replace("_", " ")


def _size(num_bytes: int) -> str:
    return f"{num_bytes >> 20} MiB" if num_bytes >= 1 << 20 else f"{num_bytes >> 10} KiB"

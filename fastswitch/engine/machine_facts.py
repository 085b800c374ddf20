"""What this machine has for the library, and what it lacks: versions, device, pinned memory, ways to copy, costs.

Ours. Nothing is measured, compiled or downloaded, no model is loaded, and nothing that is missing or broken stops it.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import shutil
from typing import Any

import torch

from fastswitch.engine.environment import environment
from fastswitch.kernels import DIRECTIONS, TRANSFERS, costs_path, remembered_costs, why_not
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["MORE_PACKAGES", "machine_facts"]

# Package beyond the core |-> the extra that brings it.
MORE_PACKAGES = {
    "transformers": "engine",
    "typer": "engine",
    "rich": "engine",
    "matplotlib": "engine",
    "cuda-bindings": "cuda",
}
TYPICAL_RUNS, TYPICAL_BLOCK_BYTES = 8, 2 << 20  # of a request of Llama-3-8B, all layers of a block together


def machine_facts() -> dict[str, Any]:
    """The contract's object, without its head: plain data, for a report or a bug report."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = {
        "environment": environment(device),
        "packages": {name: _version(name) for name in ("einops", *MORE_PACKAGES)},
        "device": _device(device),
        "pinned": _pinned(device),
        "c_compiler": shutil.which(os.environ.get("CC", "cc")),
        "ways": {way: why_not(way, device) for way in TRANSFERS},
        "costs": _costs(device),
    }
    return {**facts, "missing": _missing(facts)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(device: torch.device) -> dict[str, Any] | None:
    """The GPU; None where there is none that torch can use."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def _pinned(device: torch.device) -> dict[str, Any]:
    """Whether a host pool can be page-locked, tried with one small block."""
    if device.type != "cuda":
        return {"possible": False, "reason": "there is no GPU to lock it for"}
    layout = KVLayout(num_layers=1, num_kv_heads=1, head_dim=64, block_size=16, dtype="float16")
    try:
        KVPool(layout, 1, pinned=True)
    except RuntimeError as error:
        return {"possible": False, "reason": str(error)}
    return {"possible": True, "reason": None}


def _costs(device: torch.device) -> dict[str, Any]:
    """The table that `choose_transfer` would use, and what it chooses for a typical job."""
    path, costs = costs_path(device), remembered_costs(device)
    try:
        written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.timezone.utc).isoformat(timespec="seconds")
    except OSError:
        written = None
    chosen = {
        direction: costs.cheapest(direction, TYPICAL_RUNS, TYPICAL_BLOCK_BYTES)
        for direction in DIRECTIONS
        if costs is not None
    }
    return {"path": str(path), "date": written, "usable": costs is not None, "chosen": chosen}


def _missing(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What is not there, what goes without it, and how to get it."""
    on_gpu = facts["device"] is not None
    found = []
    for name, extra in MORE_PACKAGES.items():
        if facts["packages"][name] is None and (extra != "cuda" or on_gpu):
            found.append({"what": name, "get": f"pip install 'fastswitch[{extra}]'"})
    if facts["environment"]["triton"] is None:
        found.append({"what": "Triton, for the kernels", "get": "pip install triton"})
    if not on_gpu:
        found.append({"what": "a GPU", "get": "a CUDA device, its driver and a CUDA build of torch"})
    elif not facts["pinned"]["possible"]:
        found.append({"what": f"pinned memory ({facts['pinned']['reason']})", "get": "raise `ulimit -l`"})
    if on_gpu and facts["c_compiler"] is None:
        found.append({"what": "a C compiler, for per_block and per_run", "get": "install gcc, or set CC"})
    for reason in dict.fromkeys(reason for reason in facts["ways"].values() if reason is not None):
        what, _, way_out = reason.partition(": ")
        found.append({"what": what, "get": way_out or "see docs/parts.md"})
    if not facts["costs"]["usable"]:
        broken = facts["costs"]["date"] is not None
        what = "a table of copy costs that can be read" if broken else "a table of copy costs"
        found.append({"what": what, "get": "fastswitch calibrate, or leave it to the first use"})
    return found

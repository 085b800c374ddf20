"""Which way to copy a job by: the cheapest on this machine, measured once and remembered.

Ours. The table lies in the user's cache directory under the machine's name: another device, driver, torch, Triton or
version of this library has another table, and one that cannot be read is measured anew. Nothing is measured at import.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from fastswitch import __version__
from fastswitch.kernels._cache_folder import cache_folder
from fastswitch.kernels._triton import triton_version
from fastswitch.kernels.measure_transfers import measure_costs
from fastswitch.kernels.transfer_costs import CopyDirection, TransferCosts

__all__ = ["choose_transfer", "costs_path", "machine_of", "remembered_costs", "transfer_costs"]

SCHEMA = 1  # of the file; what was measured otherwise is stale


def choose_transfer(
    direction: CopyDirection,
    num_runs: int,
    bytes_per_run: float,
    *,
    num_host_runs: int | None = None,
    ways: Iterable[str] | None = None,
    costs: TransferCosts | None = None,
) -> str:
    """Name the way, a key of `TRANSFERS`, that takes the least time for a job, by the rule of `TransferCosts.cheapest`.

    The first call on a machine measures it, in under half a second besides compiling kernels.

    Args:
        direction: ``"device_to_host"`` or ``"host_to_device"``.
        num_runs: contiguous copies that the job falls into: runs, times the planes of a layer-major pool.
        bytes_per_run: mean bytes of one.
        num_host_runs: as ``num_runs``, but of what is contiguous on the host, which is all that ``staged`` pays for;
            None: as many.
        ways: those to choose from, such as `TRANSPOSING`; None: all that work here.
        costs: of this or another machine; None: of the first CUDA device, or of the CPU where there is none.

    Raises:
        ValueError: if the direction or a way is unknown, or a number is not positive.
    """
    table = transfer_costs() if costs is None else costs
    return table.cheapest(direction, num_runs, bytes_per_run, num_host_runs=num_host_runs, ways=ways)


def transfer_costs(
    device: torch.device | str | None = None, *, folder: Path | None = None, anew: bool = False
) -> TransferCosts:
    """The costs of copying between the host and ``device``: remembered, or measured and written down.

    A folder that cannot be written to costs the next process a measurement, and nothing else.

    Args:
        device: a CUDA device or the CPU; None: the first CUDA device, or the CPU where there is none.
        folder: where tables are kept; None: ``$XDG_CACHE_HOME/fastswitch``, by default ``~/.cache/fastswitch``.
        anew: measure even if a table is there.
    """
    if anew:
        _of_this_process.cache_clear()
    return _of_this_process(_device(device), folder or cache_folder(), anew=anew)


def remembered_costs(device: torch.device | str | None = None, *, folder: Path | None = None) -> TransferCosts | None:
    """The table of an earlier measurement; None if there is none that holds for ``device``. Measures nothing.

    Args:
        device: as for `transfer_costs`.
        folder: as for `transfer_costs`.
    """
    found = _device(device)
    return _read(costs_path(found, folder=folder), machine_of(found))


def costs_path(device: torch.device | str | None = None, *, folder: Path | None = None) -> Path:
    """The file in which the table of ``device`` is kept; it need not be there. Arguments as for `transfer_costs`."""
    name = hashlib.sha256(json.dumps(machine_of(_device(device))).encode()).hexdigest()[:16]
    return (folder or cache_folder()) / f"transfer-costs-{name}.json"


def machine_of(device: torch.device) -> dict[str, str]:
    """What a table holds for: everything that could change what copies cost."""
    on_gpu = device.type == "cuda"
    return {
        "schema": str(SCHEMA),
        "fastswitch": __version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"cpu, {os.cpu_count()} cores",
        "cuda": f"{torch.version.cuda}, {_driver_version()}" if on_gpu else "none",
        "torch": torch.__version__,
        "triton": triton_version(),
        "numpy": np.__version__,
    }


@functools.cache
def _of_this_process(device: torch.device, folder: Path, *, anew: bool) -> TransferCosts:
    costs = None if anew else remembered_costs(device, folder=folder)
    if costs is None:
        costs = measure_costs(device, machine_of(device))
        _write(costs_path(device, folder=folder), costs)
    return costs


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found


def _read(path: Path, machine: dict[str, str]) -> TransferCosts | None:
    """The table in a file; None if there is none, it is broken, or it is of another machine."""
    try:
        costs = TransferCosts.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return costs if costs.machine == machine else None


def _write(path: Path, costs: TransferCosts) -> None:
    """Put the whole table there at once: another process may be reading."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(costs.as_json(), file, indent=1)
        Path(file.name).replace(path)
    except OSError:
        return


def _driver_version() -> str:
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return "driver unknown"
    return f"driver {version.value}"

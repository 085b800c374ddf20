"""How the kernels of this folder are reached: with a GPU, in Triton's interpreter, or not at all.

Ours. Triton is optional: every module here imports without it, and then the torch path serves.
``TRITON_INTERPRET=1`` must be set before the import: kernels are interpreted or compiled once and for all.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager

import numpy as np
import torch

try:
    import triton
except ImportError:
    triton = None

__all__ = [
    "INTERPRETED",
    "cuda_device",
    "kernel_device",
    "launching",
    "takes_kernel",
    "triton_version",
    "upload",
    "why_no_kernel",
]

INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
# The interpreter patches `triton.language` while it runs: two threads launching at once fail.
_INTERPRETER_LOCK = threading.Lock()
_AS_IT_IS = contextlib.nullcontext()


def takes_kernel(device: torch.device) -> bool:
    """Whether tensors there run the Triton kernel: on CUDA, and in the interpreter on the CPU too."""
    return INTERPRETED or (triton is not None and device.type == "cuda")


def cuda_device(tensors: Iterable[torch.Tensor]) -> torch.device | None:
    """The CUDA device that holds any of the tensors; None if all of them are on the host."""
    return next((tensor.device for tensor in tensors if tensor.is_cuda), None)


def triton_version() -> str:
    """Triton's version; ``none`` where it is not installed."""
    return "none" if triton is None else str(triton.__version__)


def kernel_device(tensors: Iterable[torch.Tensor], what: str) -> torch.device | None:
    """As `cuda_device`, for ``what`` runs a kernel there.

    Raises:
        RuntimeError: if there is a CUDA device and no Triton.
    """
    device = cuda_device(tensors)
    reason = why_no_kernel(what)
    if device is not None and reason is not None:
        raise RuntimeError(reason)
    return device


def why_no_kernel(what: str) -> str | None:
    """Why ``what`` cannot run on a CUDA device, with the way out; None if Triton is there."""
    return f"{what} needs Triton on a CUDA device: pip install triton" if triton is None else None


def launching(device: torch.device) -> AbstractContextManager[object]:
    """Around every launch: the device is current, and the interpreter has one thread at a time."""
    if INTERPRETED:
        return _INTERPRETER_LOCK
    # A launch takes some ten microseconds, and a layer has three: they are not spent on what is so already.
    if device.type != "cuda" or device.index in (None, torch.cuda.current_device()):
        return _AS_IT_IS
    return torch.cuda.device(device)


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on ``device``, enqueued on the current stream; the caller never waits, and may drop the array.

    On the CPU it is the array's own memory.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    # From pageable memory the driver would copy in the caller's time, and for more than 64 KiB wait for the stream.
    return tensor.pin_memory().to(device, non_blocking=True)

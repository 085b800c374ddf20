"""Plain copies of contiguous memory, many at a time: their addresses as arrays, and the call that issues them all.

Paper: FastSwitch (arXiv 2411.18424) and vLLM issue their copies from C++.
Ours:  the loop is `memcpy_loop.c`, compiled when it is first needed, with the C compiler that Triton needs as well;
       where there is none the loop is Python's, and slower. On the host the calls are numpy's slice assignment, cheaper
       a call than ``Tensor.copy_`` (0.4 against 2.3 us for 2 KiB, 2.3 against 4.0 us for 32 KiB, on one core).
Invariants:
1. Copies of a list are issued in its order, on the current stream; nothing here waits for them.
2. The addresses are the tensors' own: whoever calls keeps the tensors alive until the copies are done.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastswitch.kernels._blocks import as_integers
from fastswitch.kernels._cache_folder import cache_folder
from fastswitch.kernels._planes import Pairs

__all__ = ["Copies", "copy_each", "current_stream", "list_copies", "slice_copies"]

_SOURCE = Path(__file__).with_name("memcpy_loop.c")
_DRIVER = "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class Copies:
    """Contiguous pieces to copy.

    Attributes:
        dst: ``[n]`` uint64 addresses.
        src: ``[n]`` uint64 addresses.
        num_bytes: ``[n]`` uint64.
    """

    dst: np.ndarray
    src: np.ndarray
    num_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.dst)


def list_copies(pairs: Pairs, runs: np.ndarray) -> Copies:
    """The pieces that make up ``runs``, a pair after the other; a run is one piece of each pair.

    Args:
        pairs: contiguous tensors whose dim 0 is the block.
        runs: ``[n, 3]`` integers, checked.
    """
    assert all(tensor.is_contiguous() for pair in pairs for tensor in pair)
    block_bytes = np.array([src.shape[1:].numel() * src.element_size() for src, _ in pairs])[:, None]
    src_base = np.array([src.data_ptr() for src, _ in pairs], dtype=np.uint64)[:, None]
    dst_base = np.array([dst.data_ptr() for _, dst in pairs], dtype=np.uint64)[:, None]
    src_start, dst_start, num_blocks = (column.astype(np.int64) for column in runs.T)
    return Copies(
        (dst_base + (dst_start * block_bytes).astype(np.uint64)).ravel(),
        (src_base + (src_start * block_bytes).astype(np.uint64)).ravel(),
        (num_blocks * block_bytes).astype(np.uint64).ravel(),
    )


def current_stream(device: torch.device) -> int:
    """The handle of the current stream; makes the device's context current on this thread.

    torch's own calls do that by themselves; the driver's, called past torch, need it done.
    """
    stream = torch.cuda.current_stream(device)
    with torch.cuda.device(device):
        stream.query()
    return int(stream.cuda_stream)


def copy_each(copies: Copies, stream: int) -> None:
    """Issue one asynchronous copy a piece on ``stream``, from C.

    Raises:
        RuntimeError: if the driver refuses a copy; those before it are on their way.
    """
    copy, loop = _driver_copy(), _compiled_loop()
    code = ctypes.c_int(0)
    if loop is None:
        issued = _loop_in_python(copy, copies, stream, code)
    else:
        arrays = [array.ctypes.data for array in (copies.dst, copies.src, copies.num_bytes)]
        issued = loop(ctypes.cast(copy, ctypes.c_void_p), *arrays, len(copies), stream, ctypes.byref(code))
    if code.value:
        raise RuntimeError(f"copy {issued} of {len(copies)} failed: CUDA driver error {code.value}")


def slice_copies(pairs: Pairs, runs: np.ndarray) -> None:
    """The same copies where both sides are host memory: one slice assignment a piece."""
    rows = runs.tolist()
    for src, dst in pairs:
        src_words, dst_words = as_integers(src).numpy(), as_integers(dst).numpy()
        for src_start, dst_start, num_blocks in rows:
            dst_words[dst_start : dst_start + num_blocks] = src_words[src_start : src_start + num_blocks]


def _loop_in_python(copy: Callable[..., int], copies: Copies, stream: int, code: ctypes.c_int) -> int:
    issued = 0
    for dst, src, num_bytes in zip(copies.dst.tolist(), copies.src.tolist(), copies.num_bytes.tolist(), strict=True):
        code.value = copy(dst, src, num_bytes, stream)
        if code.value:
            break
        issued += 1
    return issued


@functools.cache
def _driver_copy() -> Any:
    """``cuMemcpyAsync(dst, src, num_bytes, stream)``, which tells host from device by the address."""
    copy = ctypes.CDLL(_DRIVER).cuMemcpyAsync
    copy.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p]
    return copy


@functools.cache
def _compiled_loop() -> Callable[..., int] | None:
    """``fastswitch_copy_each``; None where it cannot be compiled."""
    library = cache_folder() / f"memcpy_loop-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
    try:
        if not library.exists():
            _compile(library)
        loop = ctypes.CDLL(str(library)).fastswitch_copy_each
    except (OSError, subprocess.SubprocessError):
        return None
    loop.argtypes = [*[ctypes.c_void_p] * 4, ctypes.c_size_t, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    loop.restype = ctypes.c_size_t
    return loop


def _compile(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(built), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        built.replace(library)  # at once: another process may be about to load it

"""Many copies in one call of the CUDA driver: ``cuMemcpyBatchAsync``, from driver 12.8 on.

Ours, in that the call is prepared in numpy arrays and made once: cuda-bindings finds the function, ctypes calls it, and
no entry costs Python anything. (Its own wrapper takes lists, an object an entry.)
Source order is the stream's in both directions. The driver offers to read a source at any time, which other engines use
for copies to the device; but a host block may be the destination of a swap-out that is still on its way, and of a copy
from the device any other order has been seen to read KV before it was written.
Invariants:
1. One call a list; no entry is merged or dropped.
2. Never on the legacy default stream, which the driver refuses.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from fastswitch.kernels._memcpy import Copies

__all__ = ["copy_batch", "why_no_batch"]

_FUNCTION = "cuMemcpyBatchAsync"
_DRIVER_VERSION = 12080  # the first that has it; asking for it gives this signature from newer drivers too
_STREAM_ORDER = 1  # CU_MEMCPY_SRC_ACCESS_ORDER_STREAM


class _Location(ctypes.Structure):  # CUmemLocation
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Attributes(ctypes.Structure):  # CUmemcpyAttributes; locations of type 0 hint at nothing
    _fields_ = (
        ("source_order", ctypes.c_int),
        ("source", _Location),
        ("destination", _Location),
        ("flags", ctypes.c_uint),
    )


def copy_batch(copies: Copies, stream: int) -> None:
    """Issue all pieces in one call on ``stream``; the arrays may be dropped afterwards.

    Raises:
        ValueError: on the legacy default stream.
        RuntimeError: if cuda-bindings or the driver cannot do it, or the driver refuses the batch.
    """
    if stream == 0:
        raise ValueError("batched needs a stream of its own, got the default stream: use torch.cuda.stream(...)")
    batch = _driver_batch()
    first, failed = ctypes.c_size_t(0), ctypes.c_size_t(0)
    attributes = _Attributes(source_order=_STREAM_ORDER)
    code = batch(
        copies.dst.ctypes.data,
        copies.src.ctypes.data,
        copies.num_bytes.ctypes.data,
        len(copies),
        ctypes.byref(attributes),
        ctypes.byref(first),
        1,
        ctypes.byref(failed),
        stream,
    )
    if code:
        entry = f"entry {failed.value} of {len(copies)}"
        raise RuntimeError(f"a batch of copies was refused at {entry}: CUDA driver error {code}")


def why_no_batch() -> str | None:
    """Why this machine cannot copy in batches, with the way out; None if it can."""
    try:
        _driver_batch()
    except RuntimeError as error:
        return str(error)
    return None


@functools.cache
def _driver_batch() -> Callable[..., int]:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise RuntimeError("batched needs cuda-bindings: pip install 'fastswitch[cuda]'") from error
    try:
        code, address, found = driver.cuGetProcAddress(_FUNCTION.encode(), _DRIVER_VERSION, 0)
    except RuntimeError as error:  # cuda-bindings loads the driver when it is first used
        raise RuntimeError("batched needs a CUDA driver, and none is installed") from error
    if int(code) or int(found) or not address:
        raise RuntimeError(f"batched needs {_FUNCTION}, which this CUDA driver lacks: install driver 12.8 or newer")
    arrays = [ctypes.c_void_p] * 3
    attributes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    signature = ctypes.CFUNCTYPE(ctypes.c_int, *arrays, ctypes.c_size_t, *attributes, ctypes.c_void_p, ctypes.c_void_p)
    return signature(int(address))

"""Page-lock host memory for all CUDA devices, through the runtime that torch has loaded.

The runtime is handed in, so that this file needs no torch.

Ours: a call that fails leaves its error behind, for the next launch of a kernel to report as its own, which has misled
      users of several engines. Here it is taken away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["CudaRegistrar"]

PORTABLE, MAPPED = 1, 2  # cudaHostRegisterPortable: for every device; cudaHostRegisterMapped: kernels may use it


class CudaRegistrar:
    """Page-locks memory for copies and kernels of all devices. Satisfies `HostRegistrar`.

    Args:
        cudart: ``torch.cuda.cudart()``.
        take_error: makes CUDA raise, as RuntimeError, the error that a failed call left behind: by launching a kernel.
    """

    def __init__(self, cudart: Any, take_error: Callable[[], object]) -> None:
        self._cudart = cudart
        self._take_error = take_error

    def register(self, address: int, num_bytes: int) -> None:
        """Page-lock ``num_bytes`` bytes from ``address`` on; takes about 0.1 s/GB.

        Raises:
            RuntimeError: if CUDA refuses, with its reason and code.
        """
        self._check(self._cudart.cudaHostRegister(address, num_bytes, PORTABLE | MAPPED))

    def unregister(self, address: int) -> None:
        """Unlock what was registered at ``address``.

        Raises:
            RuntimeError: if CUDA refuses, with its reason and code.
        """
        self._check(self._cudart.cudaHostUnregister(address))

    def _check(self, status: Any) -> None:
        # An enumeration of torch's that is not an int, nor equal to one; success is 0.
        if not int(status):
            return
        reason = f"{self._cudart.cudaGetErrorString(status)} ({int(status)})"
        try:
            self._take_error()
        except RuntimeError as left_behind:
            raise RuntimeError(reason) from left_behind
        raise RuntimeError(reason)

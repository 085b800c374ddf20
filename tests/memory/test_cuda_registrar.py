"""The codes of CUDA's calls are looked at, and an error is not left for somebody else to stumble over."""

from __future__ import annotations

import pytest

from fastswitch.memory.cuda_registrar import CudaRegistrar


class Status:
    """As torch's ``cudaError``: no int, equal to none, but can be made one."""

    def __init__(self, code):
        self.code = code

    def __int__(self):
        return self.code


class Runtime:
    """As ``torch.cuda.cudart()``, with the error that stays behind after a failed call."""

    def __init__(self, code=0):
        self.calls, self.code, self.left_behind = [], code, 0

    def _end(self, *call):
        self.calls.append(call)
        self.left_behind = self.code
        return Status(self.code)

    def cudaHostRegister(self, address, num_bytes, flags):
        return self._end("register", address, num_bytes, flags)

    def cudaHostUnregister(self, address):
        return self._end("unregister", address)

    def cudaGetErrorString(self, status):
        return {2: "out of memory", 713: "not registered"}[status.code]

    def launch_a_kernel(self):
        code, self.left_behind = self.left_behind, 0
        if code:
            raise RuntimeError(f"CUDA error: {code}")


def test_registers_for_every_device_and_for_kernels():
    runtime = Runtime()
    registrar = CudaRegistrar(runtime, runtime.launch_a_kernel)
    registrar.register(4096, 8192)
    registrar.unregister(4096)
    portable_and_mapped = 1 | 2
    assert runtime.calls == [("register", 4096, 8192, portable_and_mapped), ("unregister", 4096)]


@pytest.mark.parametrize(
    ("code", "call", "message"),
    [
        (2, lambda registrar: registrar.register(4096, 8192), "out of memory (2)"),
        (713, lambda registrar: registrar.unregister(4096), "not registered (713)"),
    ],
)
def test_a_failed_call_raises_and_leaves_no_error_behind(code, call, message):
    runtime = Runtime(code)
    with pytest.raises(RuntimeError) as caught:
        call(CudaRegistrar(runtime, runtime.launch_a_kernel))
    assert str(caught.value) == message
    assert runtime.left_behind == 0


def test_a_failed_call_raises_where_nothing_was_left_behind():
    with pytest.raises(RuntimeError, match=r"^out of memory \(2\)$"):
        CudaRegistrar(Runtime(2), lambda: None).register(0, 4096)

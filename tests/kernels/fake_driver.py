"""Run a function of a test file in a fresh process that has `fake_libcuda.c` for its CUDA driver."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRIVER = "libcuda.so.1"


class FakeDriver:
    """The record of the driver that this process has loaded."""

    def __init__(self):
        self._library = ctypes.CDLL(DRIVER)

    def __getattr__(self, name):
        return ctypes.c_int.in_dll(self._library, f"fake_{name}").value

    def set(self, name, value):
        ctypes.c_int.in_dll(self._library, f"fake_{name}").value = value

    @property
    def stream(self):
        return ctypes.c_void_p.in_dll(self._library, "fake_stream").value

    @property
    def sizes(self):
        return list((ctypes.c_size_t * 4096).in_dll(self._library, "fake_sizes")[: self.entries])


def build_fake_driver(folder):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("needs a C compiler")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / DRIVER, HERE / "fake_libcuda.c"]
    subprocess.run(command, check=True)
    return folder


def run_with_fake_driver(driver_folder, cache, module, function, *, path=None):
    """``module.function()`` in a fresh process; fails with what it says."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"LD_LIBRARY_PATH": str(driver_folder), "XDG_CACHE_HOME": str(cache)}
    if path is not None:
        env["PATH"] = path
    program = f"from {module} import {function}; {function}()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

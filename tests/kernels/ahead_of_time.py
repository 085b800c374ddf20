"""A program that compiles kernels for GPUs that are not there, and prints as JSON what came of it.

Run: ``python -m tests.kernels.ahead_of_time some|all``; without ``TRITON_INTERPRET``, which a process cannot take back.
The launchers run as they are, on tensors of the CPU; Triton itself reads types, alignment and constants off their
arguments, but believes it has the GPU of `Ahead`, and stops before the launch.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from tests.kernels.variants import all_variants, names

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class Ahead:
    """As much of a driver as Triton asks before a launch."""

    def __init__(self):
        self.target = TARGETS["sm_80"]

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return self.target.arch

    def get_current_stream(self, device):
        return 0


def kernels():
    from fastswitch.kernels._attention_kernel import attention_kernel
    from fastswitch.kernels._copy_kernel import _copy_kernel
    from fastswitch.kernels._kv_write_kernel import _write_kernel
    from fastswitch.kernels.merge_attention import _merge_kernel

    return [_copy_kernel, _write_kernel, attention_kernel, _merge_kernel]


def compile_pairs(pairs):
    """(architecture, variant) |-> kernel name |-> report."""
    ahead, compiled = Ahead(), []
    driver.set_active(ahead)
    for kernel in kernels():
        kernel.run = functools.partial(record, kernel, type(kernel).run, compiled)
    launches, found = all_variants(), {}
    for architecture, variant in pairs:
        ahead.target = TARGETS[architecture]
        torch.version.hip = "6.0" if ahead.target.backend == "hip" else None  # which the launchers ask
        compiled.clear()
        launches[variant]()
        found[f"{architecture} {variant}"] = {name: report(binary) for name, binary in compiled}
    return found


def record(kernel, run, compiled, *args, grid, warmup, **kwargs):
    compiled.append((kernel.__name__.lstrip("_"), run(kernel, *args, grid=grid, warmup=True, **kwargs)))


def report(binary):
    """Registers, spills, shared memory, and the global memory instructions of a compiled kernel."""
    if "amdgcn" in binary.asm:
        text = binary.asm["amdgcn"]
        spilled = int(re.search(r"\.vgpr_spill_count:\s+(\d+)", text)[1])
        registers = int(re.search(r"\.vgpr_count:\s+(\d+)", text)[1])
        accesses = re.findall(r"(?:global|buffer)_(?:load|store)\w*", text)
    else:
        registers, spilled = nvidia_usage(binary.asm["cubin"])
        ptx = binary.asm["ptx"]
        accesses = re.findall(r"(?:ld|st)\.global\S*", ptx)
        accesses += [f"cp.async {int(size, 16)}" for size in re.findall(r"cp\.async\.c[ag]\.[^;]*?, (0x\w+)", ptx)]
    return {
        "registers": registers,
        "spilled": spilled,
        "shared": binary.metadata.shared,
        "warps": binary.metadata.num_warps,
        "accesses": sorted(set(accesses)),
    }


def nvidia_usage(cubin):
    """Registers of a thread, and the bytes it spills; None without cuobjdump."""
    if not CUOBJDUMP.exists():
        return None, None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    sizes = {name: int(size) for name, size in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return sizes["REG"], sizes["STACK"] + sizes["LOCAL"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compile_pairs(names(sys.argv[1]))))

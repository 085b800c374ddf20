"""The copy kernel compiled ahead of time, no GPU needed: 16-byte loads and stores, and no register spilled.

This file is also the program that compiles: a process that has set ``TRITON_INTERPRET`` cannot.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ARCHITECTURES = [80, 90, 100]
# types of (src_starts, dst_starts, lengths)
OPS = {
    "gather": ("*i64", None, None),
    "scatter": (None, "*i64", None),
    "copy": ("*i32", "*i32", None),
    "runs": ("*i64", "*i64", "*i64"),
    "joined": ("*i64", "*i64", "*i64"),
}
ALIGNS = [16, 8]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    pytest.importorskip("triton")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    env["TRITON_DEFAULT_FP_FUSION"] = "1"  # its default; unset, Triton 3.9 warns
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_copies_in_16_byte_words(reports, architecture, op):
    ptx = reports[f"sm_{architecture} {op} 16"]["ptx"]
    stores = re.findall(r"st\.global\S*", ptx)
    assert stores
    assert all(re.search(r"\.(v2\.b64|v4\.b32)$", store) for store in stores)
    loads = re.findall(r"ld\.global\S*\.(?:v2\.b64|v4\.b32)", ptx)
    assert len(loads) == len(stores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unaligned_memory_is_not_read_in_16_byte_words(reports, architecture):
    assert not re.search(r"global\S*\.v\d", reports[f"sm_{architecture} copy 8"]["ptx"])


@pytest.mark.parametrize(("architecture", "op", "align"), list(itertools.product(ARCHITECTURES, OPS, ALIGNS)))
def test_spills_nothing(reports, architecture, op, align):
    usage = reports[f"sm_{architecture} {op} {align}"]["usage"]
    if usage is None:
        pytest.skip("this Triton brings no cuobjdump")
    assert re.findall(r"(?:STACK|LOCAL):\d+", usage) == ["STACK:0", "LOCAL:0"]


def compile_all():
    """PTX and resource usage of the kernel as every copy function launches it, by ``sm_<n> <op> <align>``."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastswitch.kernels._copy_kernel import MAX_WARPS, TILE_BYTES, _copy_kernel

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    found = {}
    for architecture, (op, ids), align in itertools.product(ARCHITECTURES, OPS.items(), ALIGNS):
        constants = {"WORD": tl.int64, "WORDS_PER_UNIT": align // 8, "ALIGN": align, "TILE": TILE_BYTES // 8}
        constants |= {"INDEX": tl.int64 if op == "runs" else tl.int32, "JOINED": op == "joined"}
        types = {"pieces_ptr": "*i64", "num_items": "i64" if op == "runs" else "i32"}
        types |= dict.fromkeys(["chunk_blocks", "num_pieces", "piece_units", "num_tiles"], "i32")
        for name, ids_type in zip(("src_starts_ptr", "dst_starts_ptr", "lengths_ptr"), ids, strict=True):
            (constants if ids_type is None else types)[name] = ids_type
        signature = {name: types.get(name, "constexpr") for name in _copy_kernel.arg_names}
        source = ASTSource(_copy_kernel, signature, constexprs=constants)
        target = GPUTarget("cuda", architecture, 32)
        compiled = triton.compile(source, target=target, options={"num_warps": MAX_WARPS})
        report = {"ptx": compiled.asm["ptx"], "usage": resource_usage(tool, compiled.asm["cubin"])}
        found[f"sm_{architecture} {op} {align}"] = report
    return found


def resource_usage(tool, cubin):
    if not tool.exists():
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compile_all()))

"""Every kernel compiled ahead of time as its launcher launches it, no GPU needed.

What the assembler says of each is left in out/kernels.json: registers, spills, shared memory, memory instructions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.variants import names

ROOT = Path(__file__).parents[2]
# Bytes of a program. What is compiled for sm_80 runs on sm_86 and sm_89 too, which have the least of that family.
SHARED_MEMORY = {"sm_80": 99 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}
WIDE = r"\.(v2\.b64|v4\.b32)$|dwordx4$|^cp\.async 16$"  # 16 bytes a lane

some, every = names("some"), names("all")


def compile_in_a_process(amount, cache_dir):
    pytest.importorskip("triton")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(cache_dir)}
    env["TRITON_DEFAULT_FP_FUSION"] = "1"  # its default; unset, Triton 3.9 warns
    command = [sys.executable, "-m", "tests.kernels.ahead_of_time", amount]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (ROOT / "out").mkdir(exist_ok=True)
    (ROOT / "out" / "kernels.json").write_text(done.stdout, encoding="utf-8")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return compile_in_a_process("some", tmp_path_factory.mktemp("triton"))


def check(architecture, report):
    """No register spilled, and no more shared memory than there is."""
    if report["spilled"] is not None:
        assert report["spilled"] == 0
    assert report["shared"] <= SHARED_MEMORY[architecture]


@pytest.mark.parametrize(("architecture", "variant"), some)
def test_spills_nothing_and_fits(reports, architecture, variant):
    kernels = reports[f"{architecture} {variant}"]
    assert kernels
    for report in kernels.values():
        check(architecture, report)


@pytest.mark.long
def test_every_variant_spills_nothing_and_fits(tmp_path):
    reports = compile_in_a_process("all", tmp_path)
    assert len(reports) == len(every)
    for name, kernels in reports.items():
        for report in kernels.values():
            check(name.split()[0], report)


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [pair for pair in some if pair[1].startswith(("copy", "write")) and pair[0] != "gfx942"],
)
def test_moves_16_byte_words_where_memory_is_aligned(reports, architecture, variant):
    (report,) = reports[f"{architecture} {variant}"].values()
    stores = [each for each in report["accesses"] if each.startswith("st.")]
    wide_loads = [each for each in report["accesses"] if each.startswith("ld.") and re.search(WIDE, each)]
    if "unaligned" in variant:
        assert not any(re.search(r"\.v\d", each) for each in report["accesses"])
    else:
        assert stores
        assert all(re.search(WIDE, each) for each in stores)
        assert wide_loads


@pytest.mark.parametrize(
    ("architecture", "variant"), [pair for pair in some if pair[1].startswith(("decode", "chunk"))]
)
def test_attention_loads_keys_and_values_in_16_byte_words(reports, architecture, variant):
    accesses = reports[f"{architecture} {variant}"]["attention_kernel"]["accesses"]
    if architecture == "gfx942":
        assert any(re.search(r"load_dwordx4$", each) for each in accesses)
    else:
        assert "cp.async 16" in accesses
        # the other size is that of block ids
        assert {each for each in accesses if each.startswith("cp.async")} <= {"cp.async 16", "cp.async 4"}

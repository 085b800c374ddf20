"""The wheel holds the package and nothing else, and its parts work where only torch, triton, numpy and einops are."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import fastswitch
from tests.test_layers import HEAVY, MODULES, PACKAGE, ROOT, without

ALONE = ("fastswitch.memory", "fastswitch.kernels", "fastswitch.sched", "fastswitch.engine.swap", "fastswitch.engine")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: building leaves files beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "fastswitch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder like site-packages, with the wheel's files alone."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python(installed, program, *arguments):
    """Run in a fresh interpreter that finds the package in the wheel alone."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, check=False)


def metadata(installed):
    (folder,) = installed.glob("*.dist-info")
    return folder, Parser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))


def test_it_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for path in MODULES.values()}
    assert names == sources | {"fastswitch/py.typed", "fastswitch/kernels/memcpy_loop.c"}


def test_its_version_is_the_package_s(installed):
    _, said = metadata(installed)
    assert said["Version"] == fastswitch.__version__
    assert said["License-Expression"] == "Apache-2.0"
    core = [need for need in said.get_all("Requires-Dist") if "extra ==" not in need]
    assert {re.match(r"[a-z]+", need)[0] for need in core} == {"torch", "triton", "numpy", "einops"}


@pytest.mark.parametrize("module", ALONE)
def test_a_part_loads_with_the_core_dependencies_alone(installed, module):
    done = python(installed, without(*HEAVY) + f"import {module}\nprint({module}.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_a_part_works(installed):
    program = """
import torch
from fastswitch.engine import SwapCoordinator
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, KVLayout
from fastswitch.memory.pool import KVPool

layout = KVLayout(num_layers=2, num_kv_heads=1, head_dim=8, block_size=4, dtype="float32")
device, host = KVPool(layout, 8), KVPool(layout, 8)
device.planes[0].copy_(torch.arange(device.planes[0].numel()).view_as(device.planes[0]))
kv = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(8), 4)
kv.add("a"); kv.grow("a", 10); kv.commit("a", 10)
with SwapCoordinator(device, host, transfer="per_run") as swaps:
    job = kv.begin_swap_out("a")
    swaps.submit(job).result(10)
    swaps.wait([job])
    for report in swaps.landed():
        assert report.error is None, report.error
        kv.land(report.job)
(src, dst, n), = job.runs.tolist()
assert n == 3 and torch.equal(device.planes[0][src:src + n], host.planes[0][dst:dst + n])
"""
    done = python(installed, without(*HEAVY) + program)
    assert done.returncode == 0, done.stderr


def test_the_command_line_says_what_it_needs(installed):
    folder, _ = metadata(installed)
    assert "fastswitch = fastswitch.engine.entry:main" in (folder / "entry_points.txt").read_text(encoding="utf-8")
    done = python(installed, without("typer") + "from fastswitch.engine.entry import main\nmain()")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastswitch: the command line needs typer: pip install 'fastswitch[engine]'\n"


def test_the_package_is_a_command(installed):
    done = python(installed, "import runpy\nrunpy.run_module('fastswitch', run_name='__main__')", "--help")
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


def test_the_changelog_begins_with_this_version():
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest == fastswitch.__version__

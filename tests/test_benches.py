"""Every micro-benchmark runs, once and untimed, and asserts what it asserts before it times anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHES = sorted((ROOT / "benchmarks").glob("bench_*.py"))


@pytest.mark.long
@pytest.mark.parametrize("bench", BENCHES, ids=lambda path: path.stem)
def test_a_benchmark_runs(bench, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-disable", "-p", "no:cacheprovider", str(bench)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "BENCH_MINIATURE": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]

"""Everything that a GPU can prove, in one command of at most nine minutes: ``make gpu``.

The gpu-marked tests, the costs of copying, the kernels' benchmarks, and the runs of ``fastswitch bench`` side by side
on the shapes of Llama-3-8B. Each phase has its share of the time; one that fails or runs out of it (it is interrupted,
and writes what it has) does not keep the next from running. Then `verdicts` sets what was measured beside its targets.

Where there is no GPU the same phases run in miniature, to see that they work: nothing it writes is a figure.
``make gpu PHASES="tests engine" MINUTES=4`` runs some of them, each within its share of fewer minutes.

Writes eight files into ``$OUT``; without it into ``benchmarks/results/<gpu>/``, in miniature ``out/gpu-miniature/``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).parents[1]
LIMIT_S = 520.0  # of nine minutes; what is left is for Python to start and files to be written
GRACE_S = 15.0  # for an interrupted phase to write what it has
MOST_TESTS = 12  # at once: most of their time is Triton's, compiling on a core each
ON_GPU = torch.cuda.is_available()
BENCHES = ("stream", "transfer", "attention", "kv_write", "block_copy")  # the last ones are lost if time runs out
FILES = (
    "gpu-tests.xml",
    "kernels.json",
    "costs.json",
    "costs.png",
    "engine.json",
    "engine.png",
    "verdicts.md",
    "phases.txt",
)

# The pool holds 40 % of what all conversations need at their longest, the host nearly all of it; priorities change
# every ten iterations. Simulated, that is 350 iterations with over 500 switches of 40 blocks. The runs that matter most
# come first: the last ones are lost if time runs out.
ENGINE_ON_GPU = (
    "--device cuda --model llama-3-8b-shapes --workload benchmarks/documents.jsonl --device-tokens 24000 "
    "--host-tokens 56000 --rate 40 --think 0.2 --frequency 0.1 "
    "--runs vllm_0_3,fastswitch,modern,paper,cross_layer,+async,+groups,recompute"
)
ENGINE_IN_MINIATURE = "--device cpu --conversations 4 --scale 0.02 --device-tokens 100 --block-size 4"


class Phase(NamedTuple):
    """A command with its share of the time."""

    name: str
    command: list[str]
    limit_s: float


def phases(out: Path) -> list[Phase]:
    """What is run, in this order."""
    pytest = [sys.executable, "-m", "pytest", "-ra", "-o", "filterwarnings=default"]
    benches = [f"benchmarks/bench_{name}.py" for name in BENCHES]
    engine = (ENGINE_ON_GPU if ON_GPU else ENGINE_IN_MINIATURE).split()
    tests, kernels, costs, costs_png, engine_json, engine_png, *_ = (str(out / name) for name in FILES)
    # Those of one `xdist_group` take much of the GPU's memory, and run in one worker.
    at_once = min(len(os.sched_getaffinity(0)), MOST_TESTS)
    side_by_side = ["-n", str(at_once), "--dist", "loadgroup"] if ON_GPU and importlib.util.find_spec("xdist") else []
    return [
        Phase("tests", ["env", "OMP_NUM_THREADS=2", *pytest, *side_by_side, "-m", "gpu", f"--junitxml={tests}"], 150),
        Phase("calibrate", [*_cli("calibrate"), "--json", costs, "--plot", costs_png], 30),
        Phase("kernels", [*pytest, *benches, "--benchmark-disable-gc", f"--benchmark-json={kernels}"], 160),
        Phase("engine", [*_cli("bench"), *engine, "--json", engine_json, "--plot", engine_png], 230),
    ]


def shared(chosen: list[Phase], limit_s: float) -> list[Phase]:
    """The phases with less time each where there is less for all; the last one has what is left."""
    share = min(1.0, limit_s / sum(phase.limit_s for phase in chosen))
    return [
        *(phase._replace(limit_s=share * phase.limit_s) for phase in chosen[:-1]),
        chosen[-1]._replace(limit_s=limit_s),
    ]


def _cli(command: str) -> list[str]:
    return [sys.executable, "-m", "fastswitch.engine.cli", command]


def run(phase: Phase, deadline: float) -> str:
    """Run a phase to its end or its limit; how it ended, in a few words."""
    limit_s = min(phase.limit_s, deadline - time.monotonic())
    print(f"\n== {phase.name}, at most {limit_s:.0f} s: {' '.join(phase.command)}", flush=True)
    if limit_s < 1:
        return "not run: no time was left"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {} if ON_GPU else {"BENCH_MINIATURE": "1"}
    start = time.monotonic()
    process = subprocess.Popen(
        phase.command,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - this process has one thread
    )
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        status = _interrupt(process)
        return f"interrupted after {time.monotonic() - start:.0f} s (status {status}); what it had is written"
    except BaseException:
        _interrupt(process)
        raise
    nothing_to_test = phase.name == "tests" and status == 5 and not ON_GPU
    word = "passed" if status == 0 or nothing_to_test else f"FAILED with status {status}"
    return f"{word} in {time.monotonic() - start:.0f} s"


def _heed_interrupts() -> None:
    """In the new process: one that was started in the background of a shell would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(process: subprocess.Popen[bytes]) -> int:
    """As Ctrl-C would, and after a while for good."""
    for how in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            return process.wait(GRACE_S)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue
    return process.wait()


def out_folder() -> Path:
    """``$OUT``, or a folder named after the GPU."""
    if os.environ.get("OUT"):
        return Path(os.environ["OUT"]).resolve()
    if not ON_GPU:
        return ROOT / "out" / "gpu-miniature"
    gpu = torch.cuda.get_device_name().lower().removeprefix("nvidia ").split()[0]
    return ROOT / "benchmarks" / "results" / gpu


def _arguments() -> argparse.Namespace:
    names = [phase.name for phase in phases(Path())]
    parser = argparse.ArgumentParser(description="What a GPU can prove, in at most nine minutes.")
    parser.add_argument("--minutes", type=float, default=9.0, help="at most so long; phases get their shares of it")
    parser.add_argument("--phases", nargs="+", choices=names, default=names, metavar="PHASE", help=", ".join(names))
    return parser.parse_args()


def main() -> int:
    """Run all phases; 1 if one of them failed."""
    from verdicts import write_verdicts

    arguments = _arguments()
    limit_s = min(LIMIT_S, 60 * arguments.minutes - GRACE_S)
    deadline = time.monotonic() + limit_s
    out = out_folder()
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    chosen = shared([phase for phase in phases(out) if phase.name in arguments.phases], limit_s)
    ends = {phase.name: run(phase, deadline) for phase in chosen}
    summary = "".join(f"{name}: {end}\n" for name, end in ends.items())
    (out / "phases.txt").write_text(summary, encoding="utf-8")
    write_verdicts(out)
    print(f"\n{summary}\n{(out / 'verdicts.md').read_text(encoding='utf-8')}\nin {out}")
    return int(any("passed" not in end and "interrupted" not in end for end in ends.values()))


if __name__ == "__main__":
    sys.exit(main())

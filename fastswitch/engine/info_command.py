"""What ``fastswitch info`` does: print what this machine has for the library, and how to get what it lacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastswitch.engine.machine_facts import machine_facts
from fastswitch.engine.usage import check_writable, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_info"]


def run_info(*, json_path: Path | None, command: str) -> None:
    """Print the facts, and write them where asked.

    Raises:
        UsageError: if the file cannot be written.
    """
    from rich.console import Console

    check_writable(json_path)
    facts = machine_facts()
    if json_path is not None:
        with writing(json_path):
            json_path.write_text(
                json.dumps({"schema": 1, "command": command, **facts}, indent=1) + "\n", encoding="utf-8"
            )
    console = Console(width=None if sys.stdout.isatty() else 120)
    for name, value in _rows(facts):
        console.print(f"{name:<16}{value}", highlight=False, markup=False)
    for each in facts["missing"]:
        console.print(f"{'not there':<16}{each['what']}; to get it: {each['get']}", highlight=False, markup=False)


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    environment, device, costs = facts["environment"], facts["device"], facts["costs"]
    commit = f", commit {environment['commit']}" if environment["commit"] else ""
    yield "fastswitch", f"{environment['fastswitch']}{commit}"
    yield "python", environment["python"]
    for name in ("torch", "triton", "numpy"):
        yield name, environment[name] or "-"
    for name, version in facts["packages"].items():
        yield name, version or "-"
    yield (
        "processor",
        f"{environment['processor']}, {environment['cores']} cores, {environment['torch_threads']} for torch",
    )
    if device is None:
        yield "device", "no GPU: tensors stay on the CPU, kernels run as torch and numpy calls"
    else:
        memory = f"{device['memory_bytes'] / 2**30:.0f} GiB"
        yield "device", f"{device['name']}, {memory}, sm {device['compute_capability']}, CUDA {device['cuda']}"
    yield "pinned memory", "yes" if facts["pinned"]["possible"] else f"no: {facts['pinned']['reason']}"
    yield "ways to copy", ", ".join(way for way, reason in facts["ways"].items() if reason is None)
    yield "copy costs", f"{costs['path']}, {costs['date'] or 'not measured yet'}"
    for direction, way in costs["chosen"].items():
        yield direction.replace("_", " "), f"{way}, for a request of 8 runs of 2 MiB"

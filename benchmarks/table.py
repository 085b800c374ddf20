"""Print the README's table from the JSON files of several benches of one command: ``table.py A.json B.json``.

Without files it prints those of the demo.

One column a figure, its values in the order of the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cpu"

COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "TTFT P95": lambda run: run["ttft_s"]["p95"] * 1e3,
    "TBT P99": lambda run: run["tbt_s"]["p99"] * 1e3,
    "resident TBT P99": lambda run: run["tbt_resident_s"]["p99"] * 1e3,
    "tokens/s": lambda run: run["tokens_per_s"],
    "copies": lambda run: run["switches"]["copies"],
    "MB out": lambda run: run["switches"]["bytes_out"] / 1e6,
    "stall, ms": lambda run: run["switches"]["stall_s"] * 1e3,
}
RATIOS = (
    ("vllm_0_3", "copies"),
    ("vllm_0_3", "stall, ms"),
    ("cross_layer", "stall, ms"),
    ("cross_layer", "MB out"),
    ("modern", "copies"),
    ("modern", "stall, ms"),
)


def main(paths: Sequence[str]) -> None:
    results = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    for result in results:
        print(result["environment"]["date"], result["environment"]["commit"], result["command"])
    print("| run |", " | ".join(COLUMNS), "|")
    print("|---" * (1 + len(COLUMNS)) + "|")
    runs = [{run["name"]: run for run in result["runs"]} for result in results]
    for name in runs[0]:
        cells = [" / ".join(f"{figure(each[name]):.0f}" for each in runs) for figure in COLUMNS.values()]
        print(f"| `{name}` |", " | ".join(cells), "|")
    for base, column in RATIOS:
        figure = COLUMNS[column]
        times = " / ".join(f"{figure(each[base]) / figure(each['fastswitch']):.1f}" for each in runs)
        print(f"{column} of {base} over that of fastswitch: {times}")


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(map(str, RESULTS.glob("demo-seed*.json"))))

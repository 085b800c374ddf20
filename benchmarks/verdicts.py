"""What the kernels' benchmarks measured, beside its targets: a table, from their JSON.

``python benchmarks/verdicts.py FOLDER`` reads ``kernels.json`` there and writes ``verdicts.md``. Every figure is a
ratio within one file. What was not measured is said to be so. The chosen way is set beside the best by the rule that
`TransferCosts.cheapest` chooses by: a kernel must be faster by a tenth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastswitch.kernels.transfer_costs import KERNEL_GAIN, KERNEL_WAYS

__all__ = ["Verdict", "verdicts", "write_verdicts"]

Point = dict[str, Any]  # the `extra_info` of a benchmark


class Verdict(NamedTuple):
    """A figure beside its target; None where nothing was measured."""

    what: str
    figure: float | None
    target: float

    @property
    def word(self) -> str:
        """Reached, missed, or not run."""
        if self.figure is None:
            return "not run"
        return "reached" if self.figure >= self.target else "MISSED"


def verdicts(points: list[Point], device: str) -> Iterator[Verdict]:
    """Every target that holds on this device, ``"cuda"`` or ``"cpu"``."""
    if device == "cuda":
        yield from _block_copies(points)
        yield from _swaps_on_gpu(points)
        yield from _attention(points)
    else:
        yield from _swaps_on_cpu(points)


def _block_copies(points: list[Point]) -> Iterator[Verdict]:
    ceiling = _speed(_one(points, op="copy"))
    for op in ("gather", "scatter"):
        for layout in ("block_major", "layer_major"):
            for size, target in (("8KiB", 0.8), ("32KiB", 0.9), ("256KiB", 0.9), ("2MiB", 0.9)):
                found = _one(points, op=op, impl=f"{op}_blocks", layout=layout, size=size)
                what = f"{op}, blocks of {size}, {layout}: of the device's copy bandwidth"
                yield Verdict(what, _ratio(_speed(found), ceiling), target)


def _swaps_on_gpu(points: list[Point]) -> Iterator[Verdict]:
    for direction in ("device_to_host", "host_to_device"):
        link = _speed(_one(points, op="link", direction=direction))
        for case in sorted({point["case"] for point in points if "way" in point}):
            ways = _ways(points, case, direction)
            best = max(ways.values(), default=None)
            yield Verdict(f"{case}, {direction}: the best way, of one big memcpy", _ratio(best, link), 0.95)
            if case.startswith("layer_major"):
                over = _ratio(best, ways.get("per_block"))
                yield Verdict(f"{case}, {direction}: the best way over per_block", over, 5.0)
            chosen = _one(points, case=case, direction=direction, way="per_run")
            valued = {way: speed / (KERNEL_GAIN if way in KERNEL_WAYS else 1.0) for way, speed in ways.items()}
            taken = valued.get(chosen["chosen"]) if chosen else None
            ratio = _ratio(taken, max(valued.values(), default=None))
            yield Verdict(f"{case}, {direction}: the chosen way, of the best (a kernel's speed over 1.1)", ratio, 0.95)


def _swaps_on_cpu(points: list[Point]) -> Iterator[Verdict]:
    link = _speed(_one(points, op="link", direction="device_to_host"))
    for case in ("block_major 256KiB", "block_major 256KiB, runs of 8"):
        speed = _ways(points, case, "device_to_host").get("per_run")
        yield Verdict(f"{case}: per_run, of one big memcpy", _ratio(speed, link), 0.85)
    ways = _ways(points, "layer_major 8KiB, runs of 16", "device_to_host")
    for other in ("tensor_copy", "per_block"):
        what = f"layer_major 8KiB, runs of 16: per_run over {other}"
        yield Verdict(what, _ratio(ways.get("per_run"), ways.get(other)), 3.0)


def _attention(points: list[Point]) -> Iterator[Verdict]:
    ceiling = max((point["GB/s"] for point in points if point.get("op") in ("copy", "add", "triad")), default=None)
    found = _one(points, impl="paged_attention", case="decode 64 x 4096")
    yield Verdict("decode, 64 requests x 4k tokens: of the device's bandwidth", _ratio(_speed(found), ceiling), 0.8)


def _ways(points: list[Point], case: str, direction: str) -> dict[str, float]:
    return {
        point["way"]: point["GB/s"]
        for point in points
        if point.get("case") == case and point.get("direction") == direction and "way" in point
    }


def _one(points: list[Point], **facts: str) -> Point | None:
    return next((point for point in points if all(point.get(name) == value for name, value in facts.items())), None)


def _speed(point: Point | None) -> float | None:
    return None if point is None else point["GB/s"]


def _ratio(figure: float | None, ceiling: float | None) -> float | None:
    return None if figure is None or not ceiling else figure / ceiling


def write_verdicts(folder: Path) -> None:
    """Write ``verdicts.md`` from ``kernels.json``; where the kernels were not measured there is nothing to judge."""
    if not (folder / "kernels.json").exists():
        (folder / "verdicts.md").write_text("no verdicts: the kernels were not measured\n", encoding="utf-8")
        return
    try:
        data = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        (folder / "verdicts.md").write_text(f"no verdicts: {error}\n", encoding="utf-8")
        return
    points = [each["extra_info"] for each in data["benchmarks"] if "GB/s" in each["extra_info"]]
    names = sorted({point["device"] for point in points})
    miniature = any(point.get("miniature") for point in points)
    small = ", in miniature: it runs, and no number is a figure" if miniature else ""
    lines = [
        f"{', '.join(names)}, {data['datetime']}{small}",
        "",
        "| what | measured | target | |",
        "|---|---|---|---|",
    ]
    for verdict in verdicts(points, "cpu" if names == ["cpu"] else "cuda"):
        figure = "-" if verdict.figure is None else f"{verdict.figure:.2f}"
        lines.append(f"| {verdict.what} | {figure} | {verdict.target:g} | {'-' if miniature else verdict.word} |")
    (folder / "verdicts.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_verdicts(Path(sys.argv[1]))
    print((Path(sys.argv[1]) / "verdicts.md").read_text(encoding="utf-8"))

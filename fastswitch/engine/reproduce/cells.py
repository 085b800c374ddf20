"""Tables in Markdown, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Sequence

from fastswitch.engine.metrics import speedup
from fastswitch.engine.reproduce.result import Result

__all__ = ["SPEEDUPS", "ratio", "seconds", "speedup_cell", "table"]

# figure of ``speedup`` |-> its head
SPEEDUPS = {
    "ttft_p95": "TTFT P95",
    "ttft_p99": "TTFT P99",
    "ttft_p99.9": "TTFT P99.9",
    "tbt_p99.9": "TBT P99.9",
    "tokens_per_s": "tokens/s",
}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others, which are numbers, to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def seconds(value: float | None) -> str:
    """Three digits; ``-`` where there are too few samples."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """Two decimals, of which large ones need none."""
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def speedup_cell(result: Result, run: str, base: str, figure: str) -> str:
    """How many times better; a direction alone where just one of the two is saturated."""
    if run not in result.runs or base not in result.runs:
        return "-"
    value = speedup(result.runs[run], result.runs[base])[figure]
    if value is None or result.is_saturated(run) == result.is_saturated(base):
        return ratio(value)
    return f"{'↑' if value >= 1 else '↓'} ({ratio(value)})"

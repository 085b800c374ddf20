"""What is left between ``fastswitch`` and copies that cost nothing, in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from fastswitch.engine.reproduce.cells import ratio, table
from fastswitch.engine.reproduce.evaluation import LIMIT, Place
from fastswitch.engine.reproduce.result import Result

__all__ = ["lost_table"]

OURS = "fastswitch"


def lost_table(headlines: Mapping[Place, Result]) -> str:
    """A column a place; seconds of the engine, those of requests divided by how many share an iteration."""
    columns = [_column(result) for result in headlines.values()]
    heads = ["seconds of the engine", *(f"{setup}, {priority}" for setup, priority in headlines)]
    return table(heads, [[name, *(column[name] for column in columns)] for name in columns[0]])


def _column(result: Result) -> dict[str, str]:
    ours, limit = result.runs[OURS], result.runs[LIMIT]
    lost, free = ours["lost"], limit["lost"]

    def engine_s(name: str) -> str:
        return f"{(lost[name] - free[name]) / lost['mean_requests']:.1f}" if lost["mean_requests"] else "-"

    return {
        f"`{LIMIT}` takes": f"{limit['seconds']:,.0f}",
        f"`{OURS}` takes longer by": f"{ours['seconds'] - limit['seconds']:.1f}",
        "of it: stall": f"{lost['stall_s']:.1f}",
        "wire: being copied in": engine_s("copied_s"),
        "wire: queued for it": engine_s("queued_s"),
        "polling: landed, seen an iteration later": engine_s("unseen_s"),
        "room that is being copied out": engine_s("vacating_s"),
        "requests in an iteration, ours / the limit's": f"{lost['mean_requests']:.2f} / {free['mean_requests']:.2f}",
        "host shortage: tokens computed again, ours / the limit's": (
            f"{ours['switches']['recomputed_tokens']:,} / {limit['switches']['recomputed_tokens']:,}"
        ),
        "tokens/s over the limit's": ratio(ours["tokens_per_s"] / limit["tokens_per_s"]),
    }

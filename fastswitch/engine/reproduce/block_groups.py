"""Whether block groups still pay once all layers of a block are one piece: paged runs against groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastswitch.engine.link import ENTRY_S
from fastswitch.engine.reproduce.cells import SPEEDUPS, ratio, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.plan import GROUPS, LINKS_GBPS
from fastswitch.engine.reproduce.result import Result, pooled
from fastswitch.engine.reproduce.verdicts import CHANCE

__all__ = ["block_groups_section"]

PAGED, IN_GROUPS = "modern", "fastswitch"
FIGURES = ("ttft_p95", "ttft_p99", "tbt_p99.9", "tokens_per_s")
ASKED = ("ttft_p95", "tokens_per_s")  # by which of them the question is answered


def block_groups_section(evaluation: Evaluation) -> Iterator[str]:
    """The answer, and a row a setting."""
    settings = _settings(evaluation.part(GROUPS))
    if not settings:
        return
    first = settings[0][0]
    seeds = ", ".join(str(result.case.options.seed) for result in settings[0])
    yield (
        f"## Do block groups still pay once all layers of a block are one piece?\n\n`{PAGED}` (paged, one batch a job) "
        f"against `{IN_GROUPS}` (block groups, each job its cheapest way), {first.case.setup}, Random, the reading as "
        f"conversations, seeds {seeds}. Above 1: groups are better; in brackets each seed by itself.\n"
    )
    yield _answer(settings)
    heads = ["block", "link, host", "us a call", f"blocks a copy, `{PAGED}`", f"`{IN_GROUPS}`"]
    yield table([*heads, *(SPEEDUPS[figure] for figure in FIGURES)], [_row(results) for results in settings])


def _settings(results: Sequence[Result]) -> list[list[Result]]:
    """Those that differ in the seed alone, together."""
    found: dict[tuple[int, str, float | None], list[Result]] = {}
    for result in results:
        setting = (result.case.options.block_size, result.case.changed, result.case.value)
        found.setdefault(setting, []).append(result)
    return [*found.values()]


def _answer(settings: Sequence[Sequence[Result]]) -> str:
    """Better, or worse, is what every seed says by more than chance, of either figure that is asked for."""
    better, worse = (
        [results for results in settings if any(_in_each_seed(results, figure, sign) for figure in ASKED)]
        for sign in (1, -1)
    )
    said = "no" if not better else "yes" if len(better) > len(settings) / 2 else "seldom"
    spans = []
    for figure in ASKED:
        gains = [gain for results in settings if (gain := _gain(pooled(results), figure)) is not None]
        if gains:
            spans.append(f"{SPEEDUPS[figure]} {min(gains):.2f} to {max(gains):.2f}")
    return (
        f"**{said.capitalize()}**: with every seed better by more than {CHANCE:.0%} in TTFT P95 or tokens/s in "
        f"{len(better)} of {len(settings)} settings, worse in {len(worse)}; {', '.join(spans)} times `{PAGED}`'s over "
        f"all of them. One call moves a batch of blocks wherever they lie, and its {1e6 * ENTRY_S:g} us a block are "
        f"hidden behind the bytes unless a block has less than {_least_block_kib():.0f} KiB at "
        f"{max(LINKS_GBPS.values()):g} GB/s.\n"
    )


def _least_block_kib() -> float:
    return ENTRY_S * max(LINKS_GBPS.values()) * 1e9 / 1024


def _in_each_seed(results: Sequence[Result], figure: str, sign: int) -> bool:
    """Whether groups are better, or with -1 worse, by more than chance, whatever the seed."""
    return all((gain := _gain(result, figure)) is not None and gain**sign > 1 + CHANCE for result in results)


def _gain(result: Result, figure: str) -> float | None:
    return result.speedups[f"{IN_GROUPS}/{PAGED}"][figure]


def _row(results: Sequence[Result]) -> list[str]:
    together, first = pooled(results), results[0]
    cells = []
    for figure in FIGURES:
        each = f" ({', '.join(ratio(_gain(result, figure)) for result in results)})" if figure in ASKED else ""
        cells.append(speedup_cell(together, IN_GROUPS, PAGED, figure) + each)
    return [
        f"{first.runs[PAGED]['memory']['block_bytes'] / 1024:,.0f} KiB",
        first.case.changed,
        f"{first.case.options.call_us:g}",
        *(_blocks_a_copy(together, run) for run in (PAGED, IN_GROUPS)),
        *cells,
    ]


def _blocks_a_copy(result: Result, run: str) -> str:
    switches = result.runs[run]["switches"]
    copies = switches["copies"]
    return f"{(switches['blocks_out'] + switches['blocks_in']) / copies:.1f}" if copies else "-"

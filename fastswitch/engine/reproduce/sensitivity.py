"""What each assumption is worth: figures where one thing at a time is changed, and which of them decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastswitch.engine.metrics import speedup
from fastswitch.engine.reproduce.cells import ratio, seconds, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, Evaluation
from fastswitch.engine.reproduce.plan import FOUR_RUNS, GROUPS, SENSITIVITY
from fastswitch.engine.reproduce.result import Result

__all__ = ["groups_section", "sensitivity_section"]

BASE, OURS = "vllm_0_3", ("paper", "fastswitch")


def sensitivity_section(evaluation: Evaluation) -> Iterator[str]:
    """A table a setup, then the spans."""
    results = evaluation.part(SENSITIVITY)
    if not results:
        return
    yield (
        "## One thing changed at a time\n\nRandom levels, conversations at the rate that `free_switch` can just serve "
        "with the setup's own values (load 1.0), so a smaller pool is more load. TTFT P95 in seconds (`*`: saturated), "
        "then how many times better than `vllm_0_3`, then tokens/s over the limit's.\n"
    )
    for setup in evaluation.asked.setups:
        of_setup = [result for result in results if result.case.setup == setup]
        yield f"### {setup}\n"
        yield table(
            [
                "changed",
                "to",
                *(f"`{run}`" for run in FOUR_RUNS),
                "`paper`: TTFT P95",
                "`fastswitch`: TTFT P95",
                "TBT P99.9",
                "tokens/s",
                "of the limit's",
            ],
            [_row(result) for result in of_setup],
        )
        yield f"Which assumption decides, {setup}: {'; '.join(_spans(of_setup))}.\n"


def groups_section(evaluation: Evaluation) -> Iterator[str]:
    """Blocks one by one against groups, all layers of a block in one piece in both."""
    results = evaluation.part(GROUPS)
    if not results:
        return
    yield (
        "## Do block groups still pay once all layers of a block are one piece?\n\n`modern` (paged, one batch a job) "
        f"against `fastswitch` (block groups, each job its cheapest way), {results[0].case.setup}, Random, the reading "
        "as conversations. Ratios above 1: groups are better.\n"
    )
    heads = ["block", "link, host", "us a call", "blocks a run, `modern`", "`fastswitch`"]
    yield table([*heads, "TTFT P95", "TTFT P99", "TBT P99.9", "tokens/s"], [_groups_row(result) for result in results])
    behind = [
        value
        for result in results
        for figure in ("ttft_p95", "tokens_per_s")
        if (value := speedup(result.runs["fastswitch"], result.runs["modern"])[figure]) is not None
    ]
    if behind:
        yield f"Over all of these TTFT P95 and tokens/s are {min(behind):.2f} to {max(behind):.2f} times `modern`'s.\n"


def _row(result: Result) -> list[str]:
    p95 = [
        seconds(result.figure(run, "ttft_s", "p95")) + ("*" if result.is_saturated(run) else "") for run in FOUR_RUNS
    ]
    ours, limit = result.figure("fastswitch", "tokens_per_s"), result.figure(LIMIT, "tokens_per_s")
    return [
        result.case.changed,
        f"{result.case.value:,g}",
        *p95,
        speedup_cell(result, "paper", BASE, "ttft_p95"),
        *(speedup_cell(result, "fastswitch", BASE, name) for name in ("ttft_p95", "tbt_p99.9", "tokens_per_s")),
        ratio(ours / limit if ours is not None and limit else None),
    ]


def _spans(results: Sequence[Result]) -> list[str]:
    """How far each change moves what ``fastswitch`` gains on the base in TTFT P95; the widest first."""
    spans = []
    for changed in dict.fromkeys(result.case.changed for result in results):
        gains = [
            value
            for result in results
            if result.case.changed == changed
            and (value := speedup(result.runs["fastswitch"], result.runs[BASE])["ttft_p95"]) is not None
        ]
        if gains:
            spans.append((max(gains) / min(gains), f"{changed} ({ratio(min(gains))} to {ratio(max(gains))})"))
    return [said for _, said in sorted(spans, reverse=True)]


def _groups_row(result: Result) -> list[str]:
    runs, options = result.runs, result.case.options
    lengths = [runs[run]["switches"]["blocks_per_copy"] for run in ("modern", "fastswitch")]
    figures = ("ttft_p95", "ttft_p99", "tbt_p99.9", "tokens_per_s")
    return [
        f"{runs['modern']['memory']['block_bytes'] / 1024:,.0f} KiB",
        result.case.changed,
        f"{options.call_us:g}",
        *("-" if length is None else f"{length:.1f}" for length in lengths),
        *(speedup_cell(result, "fastswitch", "modern", figure) for figure in figures),
    ]

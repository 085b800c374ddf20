"""What each assumption is worth: figures where one thing at a time is changed, and which of them decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastswitch.engine.metrics import speedup
from fastswitch.engine.reproduce.cells import ratio, seconds, speedup_cell, table
from fastswitch.engine.reproduce.evaluation import LIMIT, Evaluation
from fastswitch.engine.reproduce.plan import FOUR_RUNS, SENSITIVITY
from fastswitch.engine.reproduce.result import Result

__all__ = ["sensitivity_section", "widest_spans"]

BASE = "vllm_0_3"


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
        yield (
            f"Which assumption decides, {setup}, `fastswitch` over `{BASE}` in TTFT P95: "
            f"{'; '.join(widest_spans(of_setup, 'fastswitch'))}.\n"
        )


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


def widest_spans(results: Sequence[Result], run: str) -> list[str]:
    """How far each change moves what a run gains on the base in TTFT P95; the widest first."""
    spans = []
    for changed in dict.fromkeys(result.case.changed for result in results):
        gains = [
            (value, speedup_cell(result, run, BASE, "ttft_p95"))
            for result in results
            if result.case.changed == changed
            and (value := speedup(result.runs[run], result.runs[BASE])["ttft_p95"]) is not None
        ]
        if gains:
            (least, low), (most, high) = min(gains), max(gains)
            spans.append((most / least, f"{changed}: {low} to {high}"))
    return [said for _, said in sorted(spans, reverse=True)]

"""What each assumption is worth: figures where one thing at a time is changed, and which of them decides."""

from __future__ import annotations

from collections import Counter
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
        "with the setup's own values (load 1.0), so a smaller pool is more load; a longer think time is less, since "
        "conversations last longer than all take to arrive: `offered` is tokens asked for a second, over those with "
        "the setup's own values. TTFT P95 in seconds (`*`: saturated), then how many times better than `vllm_0_3`, "
        "then tokens/s over the limit's.\n"
    )
    for setup in evaluation.asked.setups:
        of_setup = [result for result in results if result.case.setup == setup]
        yield f"### {setup}\n"
        yield table(
            [
                "changed",
                "to",
                "offered",
                *(f"`{run}`" for run in FOUR_RUNS),
                "`paper`: TTFT P95",
                "`fastswitch`: TTFT P95",
                "TBT P99.9",
                "tokens/s",
                "of the limit's",
            ],
            [_row(result, _usual(of_setup)) for result in of_setup],
        )
        yield (
            f"Which assumption decides, {setup}, `fastswitch` over `{BASE}` in TTFT P95, the widest first by what is a "
            f"value: {'; '.join(widest_spans(of_setup, 'fastswitch'))}.\n"
        )


def _usual(results: Sequence[Result]) -> Result | None:
    """What all have in common but for what is changed: it is made for several of them."""
    counted = Counter(result.case.options for result in results)
    return next((result for result in results if counted[result.case.options] > 1), None)


def _offered(result: Result) -> float | None:
    offered: float | None = result.runs[BASE]["offered_tokens_per_s"]
    return offered


def _row(result: Result, usual: Result | None) -> list[str]:
    p95 = [
        seconds(result.figure(run, "ttft_s", "p95")) + ("*" if result.is_saturated(run) else "") for run in FOUR_RUNS
    ]
    ours, limit = result.figure("fastswitch", "tokens_per_s"), result.figure(LIMIT, "tokens_per_s")
    offered, usually = _offered(result), _offered(usual) if usual is not None else None
    return [
        result.case.changed,
        f"{result.case.value:,g}",
        ratio(offered / usually if offered and usually else None),
        *p95,
        speedup_cell(result, "paper", BASE, "ttft_p95"),
        *(speedup_cell(result, "fastswitch", BASE, name) for name in ("ttft_p95", "tbt_p99.9", "tokens_per_s")),
        ratio(ours / limit if ours is not None and limit else None),
    ]


def widest_spans(results: Sequence[Result], run: str) -> list[str]:
    """How far each change moves what a run gains on the base in TTFT P95, the widest first.

    By its values; directions, which are none, are said beside them.
    """
    spans = []
    for changed in dict.fromkeys(result.case.changed for result in results):
        values: list[tuple[float, str]] = []
        directions: list[tuple[float, str]] = []
        for result in results:
            gain = speedup(result.runs[run], result.runs[BASE])["ttft_p95"]
            if result.case.changed == changed and gain is not None:
                is_direction = result.is_saturated(run) != result.is_saturated(BASE)
                cell = speedup_cell(result, run, BASE, "ttft_p95")
                (directions if is_direction else values).append((gain, cell))
        if values or directions:
            width = max(values)[0] / min(values)[0] if values else 0.0
            spans.append((width, f"{changed}: {' and '.join(_span(gains) for gains in (values, directions) if gains)}"))
    return [said for _, said in sorted(spans, key=lambda each: each[0], reverse=True)]


def _span(gains: Sequence[tuple[float, str]]) -> str:
    low, high = min(gains)[1], max(gains)[1]
    return low if low == high else f"{low} to {high}"

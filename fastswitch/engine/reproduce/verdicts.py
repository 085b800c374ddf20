"""What was to be shown, and whether it was: a line each, from the figures alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from fastswitch.engine.reproduce.cells import seconds
from fastswitch.engine.reproduce.evaluation import LIMIT, Evaluation, Place
from fastswitch.engine.reproduce.plan import ALL_RUNS
from fastswitch.engine.reproduce.result import Result

__all__ = ["gap", "verdicts"]

# which is compared |-> with whom it is not, besides itself
SPARED = {"paper": ("fastswitch", LIMIT), "fastswitch": (LIMIT,)}
# each is to be at least as good as the one before it
ORDER = ("recompute", "vllm_0_3", "+groups", "+async", "paper", "fastswitch", "free_switch")
# (figure, percentile), what it is called, whether more is better
ORDERED_BY = ((("ttft_s", "p95"), "TTFT P95", False), (("tokens_per_s", None), "tokens/s", True))
CHANCE = 0.03  # of TTFT P95 or tokens/s, which differ less between seeds than tails do: less is called no difference
GAP, GAP_FULL = 0.05, 0.10


def verdicts(evaluation: Evaluation) -> list[str]:
    """One line a claim and place, met or missed; where nothing was switched there is nothing to claim."""
    whole, headlines = evaluation.ablations(), evaluation.headlines()
    idle = [place for place, result in whole.items() if not _switches(result)]
    busy = {place: result for place, result in whole.items() if place not in idle}
    return [
        *(f"no request was ever switched, so no run differs from another: {', '.join(place)}" for place in idle),
        *_best(busy),
        *_order(busy),
        *_gaps(evaluation, {place: result for place, result in headlines.items() if place in busy}),
    ]


def gap(result: Result, metric: str, percentile: str | None) -> float | None:
    """How far ``fastswitch`` is behind the limit, as a share of the limit's figure; negative where it is ahead."""
    ours, limit = (result.figure(run, metric, percentile) for run in ("fastswitch", LIMIT))
    if ours is None or not limit:
        return None
    return (limit - ours) / limit if percentile is None else (ours - limit) / limit


def _switches(result: Result) -> int:
    """Requests pushed out, of all runs."""
    return sum(figures["switches"][name] for figures in result.runs.values() for name in ("swap_outs", "drops"))


def _best(whole: Mapping[Place, Result]) -> Iterator[str]:
    for (setup, priority), result in whole.items():
        if priority != "random":
            continue
        p95 = {run: result.figure(run, "ttft_s", "p95") for run in ALL_RUNS if run != LIMIT}
        for ours, spared in SPARED.items():
            mine = p95[ours]
            if mine is None:
                continue
            ahead = [
                f"`{run}` {seconds(theirs)} s"
                for run, theirs in p95.items()
                if run not in spared and theirs is not None and theirs < mine * (1 - CHANCE)
            ]
            said = f"missed: {', '.join(ahead)}" if ahead else "met"
            but = " and ".join(f"`{run}`" for run in spared)
            yield (
                f"`{ours}` at least as good as every other run but {but} in TTFT P95, {setup}, {priority} "
                f"({seconds(mine)} s): {said}"
            )


def _order(whole: Mapping[Place, Result]) -> Iterator[str]:
    """Where the order does not hold, and by how much."""
    for (setup, priority), result in whole.items():
        for (metric, percentile), label, more_is_better in ORDERED_BY:
            figures = [(run, result.figure(run, metric, percentile)) for run in ORDER]
            pairs = [
                (before, one, after, other)
                for (before, one), (after, other) in itertools.pairwise(figures)
                if one is not None and other is not None
            ]
            broken = [
                f"`{after}` {seconds(other)} behind `{before}` {seconds(one)}"
                for before, one, after, other in pairs
                if (one - other if more_is_better else other - one) > CHANCE * one
            ]
            if pairs:
                said = "met" if not broken else f"missed: {'; '.join(broken)}"
                yield f"the order {' < '.join(ORDER)} in {label}, {setup}, {priority}: {said}"


def _gaps(evaluation: Evaluation, headlines: Mapping[Place, Result]) -> Iterator[str]:
    wanted = GAP_FULL if evaluation.asked.full else GAP
    for (setup, priority), result in headlines.items():
        for metric, percentile, label in (("ttft_s", "p99", "TTFT P99"), ("tokens_per_s", None, "tokens/s")):
            behind = gap(result, metric, percentile)
            if behind is not None:
                said = "met" if behind <= wanted else "missed"
                yield (
                    f"`fastswitch` within {wanted:.0%} of `{LIMIT}` in {label}, {setup}, {priority}: {said}, "
                    f"{abs(behind):.1%} {'behind' if behind > 0 else 'ahead'}"
                )

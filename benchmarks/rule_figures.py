"""The rules that are compared, what of a run is compared, and each rule's figures relative to the adaptive one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastswitch.engine import AdaptiveSwap, AlwaysOverlap, AlwaysWait, SwapMode, SwapRule
from fastswitch.memory import SwapDirection

__all__ = ["ADAPTIVE", "FIGURES", "RULES", "PacedOverlap", "figures_of", "relative"]

Figures = Mapping[str, float | None]


class PacedOverlap(AdaptiveSwap):
    """Overlaps always and paces as the adaptive rule does: what is left between the two is the choice alone."""

    def choose(self, direction: SwapDirection, num_blocks: int) -> SwapMode:  # noqa: ARG002 - the protocol names them
        """Overlap."""
        return SwapMode.OVERLAP


ADAPTIVE = "adaptive"
RULES: dict[str, Callable[[], SwapRule]] = {
    ADAPTIVE: AdaptiveSwap,
    "overlap, paced": PacedOverlap,
    "overlap": AlwaysOverlap,
    "wait": AlwaysWait,
}
# name |-> of a run's JSON object; a percentile of too few samples is None
FIGURES: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "tokens_per_s": lambda run: run["tokens_per_s"],
    "ttft_p50_s": lambda run: run["ttft_s"]["p50"],
    "ttft_p95_s": lambda run: run["ttft_s"]["p95"],
    "tbt_p99_s": lambda run: run["tbt_s"]["p99"],
    "stall_s": lambda run: run["switches"]["stall_s"],
}


def figures_of(run: Mapping[str, Any]) -> dict[str, float | None]:
    """What is compared of a run's JSON object."""
    return {name: read(run) for name, read in FIGURES.items()}


def relative(by_rule: Mapping[str, Figures]) -> dict[str, dict[str, float | None]]:
    """Each figure over the adaptive rule's; None where either is missing, or the adaptive rule's is 0."""
    base = by_rule[ADAPTIVE]
    return {
        rule: {name: _ratio(value, base[name]) for name, value in figures.items()} for rule, figures in by_rule.items()
    }


def _ratio(figure: float | None, base: float | None) -> float | None:
    return None if figure is None or not base else figure / base

"""Few enough of many samples to keep and to send, the tail whole: its percentiles stay exact, of several runs too.

Ours. A run has hundreds of thousands of gaps between tokens, and a report needs their last thousandth and a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.metrics import PERCENTILES, SAMPLES_BEYOND, Tail

__all__ = ["KeptSamples"]

MOST_WHOLE = 20_000  # samples that are all kept
TAIL_SHARE = 0.015  # of more than those, what is kept whole: P99 and P99.9 lie in it
BODY_POINTS = 200  # that stand for the rest


@dataclass(frozen=True, slots=True)
class KeptSamples:
    """Samples in ascending order, some of which stand for several.

    Attributes:
        values: ``[n]`` float64, ascending.
        weights: ``[n]`` float64: how many samples each stands for.
        whole_from: the first of the values from which on every sample is there itself.

    >>> kept = KeptSamples.of(np.arange(100_000.0))
    >>> len(kept.values) < 2_000, kept.tail()["p99.9"] == np.percentile(np.arange(100_000.0), 99.9)
    (True, True)
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    whole_from: int

    @classmethod
    def of(cls, samples: NDArray[np.float64]) -> KeptSamples:
        """Of ``[n]`` samples in any order."""
        ordered = np.sort(np.asarray(samples, np.float64))
        if len(ordered) <= MOST_WHOLE:
            return cls(ordered, np.ones(len(ordered)), 0)
        num_whole = int(np.ceil(len(ordered) * TAIL_SHARE))
        body, whole = ordered[:-num_whole], ordered[-num_whole:]
        middles = ((np.arange(BODY_POINTS) + 0.5) * len(body) / BODY_POINTS).astype(np.int64)
        weights = np.concatenate([np.full(BODY_POINTS, len(body) / BODY_POINTS), np.ones(num_whole)])
        return cls(np.concatenate([body[middles], whole]), weights, BODY_POINTS)

    @classmethod
    def pooled(cls, several: Sequence[KeptSamples]) -> KeptSamples:
        """The samples of several runs as one's."""
        values = np.concatenate([kept.values for kept in several])
        weights = np.concatenate([kept.weights for kept in several])
        order = np.argsort(values, kind="stable")
        edges = [kept.values[kept.whole_from] for kept in several if kept.whole_from]
        whole_from = int(np.searchsorted(values[order], max(edges))) if edges else 0
        return cls(values[order], weights[order], whole_from)

    @property
    def num(self) -> int:
        """Samples that there were."""
        return round(float(self.weights.sum()))

    def tail(self) -> Tail:
        """As ``metrics.tail``; a percentile is None, too, where its samples were not kept."""
        num, result = self.num, Tail(n=self.num)
        for name in PERCENTILES:
            share = float(name[1:]) / 100
            rank = (num - 1) * share
            from_end = num - 1 - int(rank)  # of the sample at or below it
            kept = num > 0 and len(self.values) - 1 - from_end >= self.whole_from
            enough = num * (1 - share) >= SAMPLES_BEYOND - 1e-9
            result[name] = self._at(from_end, rank % 1) if kept and enough else None
        result["max"] = float(self.values[-1]) if num else None
        return result

    def above(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A curve: values, and the share of samples at or above each."""
        before = np.cumsum(self.weights) - self.weights
        return self.values, 1 - before / max(1.0, float(self.weights.sum()))

    def _at(self, from_end: int, between: float) -> float:
        low = self.values[-1 - from_end]
        high = self.values[-from_end] if from_end else low
        return float(low + (high - low) * between)

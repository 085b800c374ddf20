"""The figures of a run, in the contract's names.

Ours. TTFT: from a turn's arrival to its first token. TBT: between consecutive tokens of a turn, wherever its KV was;
resident TBT leaves out gaps in which it was off the device, so it shows what others' switches do to a request. A
percentile with fewer than 5 / (1 - p) samples is not a figure and is None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.request import Turn

__all__ = ["PERCENTILES", "SAMPLES_BEYOND", "Tail", "latency_samples", "speedup", "tail", "tokens_sha256"]

PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9")
SAMPLES_BEYOND = 5  # samples wanted beyond a percentile
SPEEDUPS = (
    ("ttft_s", "p90"),
    ("ttft_s", "p95"),
    ("ttft_s", "p99"),
    ("ttft_s", "p99.9"),
    ("tbt_s", "p99.9"),
    ("tbt_resident_s", "p99.9"),
)

Tail = dict[str, float | int | None]


def tail(samples: Sequence[float] | NDArray[np.float64]) -> Tail:
    """``n``, the percentiles and the maximum; None where there are too few samples for it.

    >>> tail([0.1] * 50)["p90"], tail([0.1] * 49)["p90"]
    (0.1, None)
    """
    result: Tail = {"n": len(samples)}
    for name in PERCENTILES:
        fraction = float(name[1:]) / 100
        enough = len(samples) * (1 - fraction) >= SAMPLES_BEYOND - 1e-9
        result[name] = float(np.percentile(samples, fraction * 100)) if enough else None
    result["max"] = float(np.max(samples)) if len(samples) else None
    return result


def latency_samples(turns: Iterable[Turn]) -> dict[str, NDArray[np.float64]]:
    """Seconds of every ``ttft_s``, ``tbt_s`` and ``tbt_resident_s``, ``[n]`` each; turns without a token give none."""
    answered = [turn for turn in turns if turn.token_times]
    gaps = [np.diff(turn.token_times) for turn in answered]
    stayed = [~np.asarray(turn.switched[1:], bool) for turn in answered]
    return {
        "ttft_s": np.array([turn.token_times[0] - turn.arrival for turn in answered], np.float64),
        "tbt_s": np.concatenate([np.empty(0), *gaps]),
        "tbt_resident_s": np.concatenate([np.empty(0), *(gap[here] for gap, here in zip(gaps, stayed, strict=True))]),
    }


def tokens_sha256(turns: Mapping[tuple[int, int], Turn]) -> str:
    """SHA-256 over the generated tokens, little-endian int64, in order of (conversation, turn)."""
    digest = hashlib.sha256()
    for key in sorted(turns):
        digest.update(np.asarray(turns[key].generated, dtype="<i8").tobytes())
    return digest.hexdigest()


def speedup(run: Mapping[str, object], base: Mapping[str, object]) -> dict[str, float | None]:
    """How many times better ``run`` is than ``base``: their tails' ratios, and that of tokens/s; None of a None."""
    result: dict[str, float | None] = {}
    for metric, percentile in SPEEDUPS:
        ours, theirs = _figure(run, metric, percentile), _figure(base, metric, percentile)
        result[f"{metric[:-2]}_{percentile}"] = theirs / ours if ours and theirs is not None else None
    ours, theirs = _rate(run), _rate(base)
    result["tokens_per_s"] = ours / theirs if ours is not None and theirs else None
    return result


def _figure(run: Mapping[str, object], metric: str, percentile: str) -> float | None:
    figures = run[metric]
    value = figures.get(percentile) if isinstance(figures, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _rate(run: Mapping[str, object]) -> float | None:
    value = run["tokens_per_s"]
    return float(value) if isinstance(value, int | float) else None

"""What each client of a run got, and how evenly they were served, in the contract's names.

Ours, on VTC's measure of service and its gap (`service_record`, `fairness`). All turns are served to their end, so a
client's service in all is what it asked for, and the same in every run: who waits for whom shows in the gap, in the
windows and in the latencies. With weights, service is compared per unit of weight.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.fairness import backlogged_windows, jain_index, service_gaps
from fastswitch.engine.metrics import latency_samples, tail
from fastswitch.engine.request import Turn
from fastswitch.engine.service_record import INPUT_WEIGHT, OUTPUT_WEIGHT, ServiceRecord
from fastswitch.engine.switch_counts import SwitchCounts

__all__ = ["MOST_CLIENTS", "client_figures"]

MOST_CLIENTS = 100  # whose gaps are looked for: every pair, in every iteration


def client_figures(
    record: ServiceRecord,
    turns: Mapping[Hashable, Sequence[Turn]],
    counts: SwitchCounts,
    weights: Mapping[Hashable, float],
    window_s: float,
) -> dict[str, Any]:
    """The ``clients`` object of a run; gaps and windows are None above `MOST_CLIENTS` clients.

    Args:
        record: of the run.
        turns: client_id |-> its turns, of every client of the record.
        counts: of the run.
        weights: client_id |-> weight, where it is not 1.
        window_s: length of the windows; 0 where there are none.
    """
    tokens, weight = record.tokens(), _weights(record, weights)
    service = tokens @ np.array([INPUT_WEIGHT, OUTPUT_WEIGHT])
    by_client = [
        {
            "client_id": client_id,
            "weight": float(weight[i]),
            "turns": len(turns[client_id]),
            "input_tokens": int(tokens[i, 0]),
            "output_tokens": int(tokens[i, 1]),
            "service": int(service[i]),
            "share": float(service[i] / service.sum()),
            **_tails(turns[client_id]),
            "switches": counts.of_client(client_id),
        }
        for i, client_id in enumerate(record.client_ids)
    ]
    return {
        "input_weight": INPUT_WEIGHT,
        "output_weight": OUTPUT_WEIGHT,
        "service": int(service.sum()),
        "jain": jain_index(service / weight),
        **_evenness(record, weight, window_s),
        "by_client": sorted(by_client, key=lambda each: (-each["service"], str(each["client_id"]))),
    }


def _weights(record: ServiceRecord, weights: Mapping[Hashable, float]) -> NDArray[np.float64]:
    return np.array([weights.get(client_id, 1.0) for client_id in record.client_ids], np.float64)


def _tails(turns: Sequence[Turn]) -> dict[str, Any]:
    samples = latency_samples(turns)
    return {metric: tail(samples[metric]) for metric in ("ttft_s", "tbt_s")}


def _evenness(record: ServiceRecord, weight: NDArray[np.float64], window_s: float) -> dict[str, Any]:
    """Of clients who wait at the same time: the largest gap, when, and Jain's index by window."""
    if len(record.client_ids) > MOST_CLIENTS:
        return {"contended": None, "max_gap": None, "max_gap_at_s": None, "jain_backlogged": None}
    service, backlogged = record.service() / weight, record.backlogged()
    contended = backlogged.sum(axis=1) >= 2
    gaps = service_gaps(service, backlogged)
    windows = list(backlogged_windows(record.times_s, service, backlogged, window_s)) if window_s else []
    found = [index for window in windows if (index := jain_index(window)) is not None]
    return {
        "contended": float(contended.mean()) if len(contended) else 0.0,
        "max_gap": float(gaps.max(initial=0.0)),
        "max_gap_at_s": float(record.times_s[gaps.argmax()]) if gaps.any() else None,
        "jain_backlogged": {
            "window_s": window_s,
            "n": len(found),
            "mean": float(np.mean(found)) if found else None,
            "min": min(found, default=None),
        },
    }

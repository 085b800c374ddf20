"""Outcomes that nobody simulated, for tests of what is made of them."""

import numpy as np

from fastswitch.engine.metrics import tail
from fastswitch.engine.reproduce.case import Case, options_of
from fastswitch.engine.reproduce.kept_samples import KeptSamples
from fastswitch.engine.reproduce.outcome import Outcome
from fastswitch.engine.reproduce.plan import ALL_RUNS, HEADLINE


def samples(longest, num=6000):
    """So many, evenly spread up to that; P95 is 0.95 of it."""
    return np.linspace(0, longest, num)


def outcome(run, longest=1.0, tokens_per_s=100.0, *, saturated=False, num=6000, **other):
    """Latencies up to ``longest`` seconds."""
    of_metric = {metric: samples(longest, num) for metric in ("ttft_s", "tbt_s", "tbt_resident_s")}
    figures = {
        "name": run,
        **{metric: tail(values) for metric, values in of_metric.items()},
        "tokens_per_s": tokens_per_s,
        "seconds": 50.0,
        "iterations": 10,
        "backlog": {"seconds": 20.0, "tokens_per_s": 80.0},
        "saturated": saturated,
        "switches": {
            "swap_outs": 3,
            "drops": 0,
            "stall_s": 0.5,
            "recomputed_tokens": 7,
            "blocks_out": 4,
            "blocks_in": 6,
            "copies": 5,
            "blocks_per_copy": 2.0,
        },
        "memory": {"block_bytes": 2 << 20},
        "lost": {
            "mean_requests": 4.0,
            "stall_s": 0.5,
            "queued_s": 4.0,
            "copied_s": 8.0,
            "unseen_s": 12.0,
            "vacating_s": 2.0,
        },
        "workload": {"name": "made up", "conversations": 10, "mean_turns": 2.0, "output_tokens": 1000},
        **other,
    }
    return Outcome(figures, {metric: KeptSamples.of(values) for metric, values in of_metric.items()})


def case(part=HEADLINE, runs=ALL_RUNS, load=None, changed="", value=None, **options):
    """One setting."""
    asked = {"setup": "llama8b-a10", "priority": "random", "rate": 1.0, "conversations": 10, **options}
    return Case(part, options_of(asked), runs, load, changed, value)

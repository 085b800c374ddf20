"""A policy of one's own against first come, first served: who has the shortest context comes first.

A ranker is two methods. Two contexts of nearly one length would push each other out in turns, so who must go is twice
as long. The simulated engine serves the same conversations of ShareGPT's lengths under each: most need not wait for
those who hold much. Who holds most may starve, though: `Aging` bounds that, whatever the ranker.

    $ PYTHONPATH=. python examples/custom_policy.py
    first come: TTFT P95 25.1 s, at most 36.2 s
    shortest context: TTFT P95 14.8 s, at most 118.9 s
    and aging: TTFT P95 13.9 s, at most 19.2 s
"""

import numpy as np

from fastswitch.engine.simulator import simulated_engine
from fastswitch.engine.workloads import synthetic_workload
from fastswitch.sched import FCFS, Aging, PrefillFirst, Ranker, Scheduler, SwapOut


class ShortestContext(Ranker):
    """Who has the fewest tokens, history included, comes first, and pushes out who has twice as many."""

    def order(self, requests):
        return sorted(requests, key=lambda request: (request.num_tokens, request.arrival, request.request_id))

    def may_preempt(self, challenger, holder):
        return 2 * challenger.num_tokens <= holder.num_tokens


def engine_with(ranker):
    """Llama-3-8B on an A10 with room for 12,800 tokens, a few conversations' worth."""
    scheduler = Scheduler(ranker, PrefillFirst(), SwapOut())
    return simulated_engine("llama8b-a10", scheduler, device_tokens=12_800, host_tokens=320_000)


def main():
    workload = synthetic_workload(conversations=60)
    p95_s, most_s = {}, {}
    for name, ranker in (
        ("first come", FCFS()),
        ("shortest context", ShortestContext()),
        ("and aging", Aging(ShortestContext(), max_wait=500)),  # iterations
    ):
        turns = engine_with(ranker).run(workload).turns.values()
        waits_s = [turn.token_times[0] - turn.arrival for turn in turns]
        p95_s[name], most_s[name] = np.percentile(waits_s, 95), max(waits_s)
        print(f"{name}: TTFT P95 {p95_s[name]:.1f} s, at most {most_s[name]:.1f} s")
    assert p95_s["shortest context"] < 0.7 * p95_s["first come"]
    assert most_s["and aging"] < most_s["first come"] < most_s["shortest context"]


if __name__ == "__main__":
    main()

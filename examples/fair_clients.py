"""Two clients, one of whom asks for three times as much: first come, first served against fair shares.

First come, first served gives to who asks most, and the modest client waits as long as the greedy one. `PreemptiveVTC`
has residency on the device follow what clients were served. The gap is VTC's: the largest difference of service (prompt
tokens, and twice the generated ones) between the two over any time in which both wait. Simulated: Llama-3-8B on an A10.

    $ PYTHONPATH=. python examples/fair_clients.py
    FCFS: gap 79390; TTFT P95 modest 60.1 s, greedy 62.3 s; 393 tokens/s
    PreemptiveVTC: gap 552; TTFT P95 modest 4.3 s, greedy 62.7 s; 394 tokens/s
"""

import random

import numpy as np

from fastswitch.engine.fairness import service_gaps
from fastswitch.engine.simulator import simulated_engine
from fastswitch.engine.workloads import Conversation, Turn, Workload
from fastswitch.sched import FCFS, PreemptiveVTC, PrefillFirst, Scheduler, SwapOut

RATES = {"modest": 1.0, "greedy": 3.0}  # client_id |-> requests a second


def requests(seconds, seed=0):
    """What both ask for in so many seconds; single turns, their lengths drawn alike."""
    draws, found = random.Random(seed), []
    for client_id, rate in RATES.items():
        arrival_s = draws.expovariate(rate)
        while arrival_s < seconds:
            found.append((arrival_s, client_id, Turn(draws.randint(50, 400), draws.randint(100, 400))))
            arrival_s += draws.expovariate(rate)
    found.sort(key=lambda each: each[0])
    conversations = (
        Conversation(i, (turn,), arrival_s, client_id) for i, (arrival_s, client_id, turn) in enumerate(found)
    )
    return Workload("two clients", seed, tuple(conversations))


def engine_with(ranker):
    """With a pool of 6,000 tokens: some ten requests' worth."""
    scheduler = Scheduler(ranker, PrefillFirst(), SwapOut())
    return simulated_engine("llama8b-a10", scheduler, device_tokens=6_000, host_tokens=64_000)


def main():
    workload, gaps = requests(seconds=60), []
    for ranker in (FCFS(), PreemptiveVTC()):
        engine = engine_with(ranker)
        recorder = engine.record_service()
        replay = engine.run(workload)
        record = recorder.record()
        gaps.append(service_gaps(record.service(), record.backlogged()).max())
        waits_s = {client_id: [] for client_id in RATES}
        for (conversation, _), turn in replay.turns.items():
            waits_s[workload.conversations[conversation].client_id].append(turn.token_times[0] - turn.arrival)
        p95_s = ", ".join(f"{client_id} {np.percentile(waits, 95):.1f} s" for client_id, waits in waits_s.items())
        tokens_per_s = workload.output_tokens / replay.seconds
        print(f"{type(ranker).__name__}: gap {gaps[-1]:.0f}; TTFT P95 {p95_s}; {tokens_per_s:.0f} tokens/s")
    assert 50 * gaps[1] < gaps[0]


if __name__ == "__main__":
    main()

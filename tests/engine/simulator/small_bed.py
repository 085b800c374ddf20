"""A simulated setup whose arithmetic is done in the head, and workloads and jobs for it."""

from __future__ import annotations

import math
from itertools import count

import numpy as np

from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.policy import Policy
from fastswitch.engine.replay import Replay
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator import ModelShape, Roofline, SimulatedBed
from fastswitch.engine.simulator.roofline import RooflineProfile
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.workloads import (
    ArrivalPlan,
    Conversation,
    ConversationTiming,
    Turn,
    TurnTiming,
    Workload,
)
from fastswitch.memory import SwapDirection, SwapJob

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN

# 4 weights of attention (Q, K, V, O of 1 x 1) and 12 of the MLP (3 x 1 x 4) make 16 a layer; the head has 16; a token's
# KV are 4 bytes (K and V of 1 element in 2 bytes).
TINY = ModelShape("tiny", "tiny", 1, 1, 1, 1, 1, 4, 16, 2, "bfloat16", "made up", 1024)

# An iteration takes a second, whatever is in it.
A_SECOND = Roofline(TINY, flops=math.inf, bytes_per_s=math.inf, iteration_s=1.0)

# A token takes 32 FLOPs, a sampled one 32 more, a pair of query and key 4: a quarter of a second, another, and 1/32 s.
COMPUTING = Roofline(TINY, flops=128.0, bytes_per_s=math.inf, iteration_s=1.0)

FREE_LINK = EmulatedLink(call_us=0, gbps=math.inf)
SECOND_A_CALL = EmulatedLink(call_us=1e6, gbps=math.inf)


def make_bed(
    roofline=A_SECOND,
    link=SECOND_A_CALL,
    *,
    device_blocks,
    host_blocks=1024,
    block_size=4,
    policy="priority",
    frequency=1.0,
    token_budget=8192,
    growth_blocks=4,
    seed=0,
    check=False,
    aging=None,
):
    profile = RooflineProfile(roofline, mean_context=8, decode_batch=1)
    policy = Policy(
        policy, "random", frequency, "prefill-first", token_budget, "swap-out", seed, aging=aging, profile=profile
    )
    spec = EngineSpec(roofline.model.kv_layout(block_size), device_blocks, host_blocks, growth_blocks, policy, check)
    return SimulatedBed("made up", {}, {}, spec, roofline, link)


def make_workload(*conversations):
    """Conversations given as tuples of (input, output) lengths."""
    return Workload(
        "made",
        0,
        tuple(
            Conversation(index, tuple(Turn(*lengths) for lengths in turns)) for index, turns in enumerate(conversations)
        ),
    )


def make_plan(workload, starts, think_s=1.0):
    """Conversations start when told, each later turn ``think_s`` after the answer before it."""
    waits = [
        (TurnTiming(), *[TurnTiming(think_s=think_s)] * (len(conversation.turns) - 1))
        for conversation in workload.conversations
    ]
    return ArrivalPlan(tuple(map(ConversationTiming, starts, waits)), None, think_s)


class Served:
    """One run over a workload, with what its engine was asked and what it says afterwards."""

    def __init__(self, bed, run, workload, plan, after_each=lambda _engine: None):
        with bed.engine(SIMULATED_RUNS[run]) as engine:
            checker = InvariantChecker(engine)

            def after_step(_turns_ended):
                after_each(engine)
                if bed.spec.check:
                    checker.check()

            replay = Replay(engine, workload, plan, lambda i, turn: bed.prompt_tokens(workload, i, turn), after_step)
            replay.run()
        check_all_free(engine)
        self.name, self.seconds, self.iterations = run, replay.seconds, engine.executed_iterations
        self.token_times = {key: turn.token_times for key, turn in replay.turns.items()}
        self.reports = engine.counts.reports
        self.switches = engine.counts.as_json(engine.stall_s)


_job_ids = count()


def make_job(direction, *lengths, job_id=None):
    """A job of runs of these lengths in blocks, none adjacent to the next."""
    starts = np.cumsum([0, *[length + 1 for length in lengths]])[:-1]
    runs = np.stack([starts, starts, lengths], axis=1).astype(np.int64)
    return SwapJob(next(_job_ids) if job_id is None else job_id, "somebody", direction, (), runs)


class Recorder:
    """An executor's wrapper that notes when each batch started and ended and who was in it."""

    def __init__(self, executor, clock: VirtualClock):
        self.max_context, self.vocab_size = executor.max_context, executor.vocab_size
        self.batches = []  # (start_s, end_s, request ids)
        self._executor, self._clock = executor, clock

    def run(self, batch):
        start = self._clock.now()
        tokens = self._executor.run(batch)
        self.batches.append((start, self._clock.now(), [entry.request_id for entry in batch]))
        return tokens

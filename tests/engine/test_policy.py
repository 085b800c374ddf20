"""What options make of a scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.policy import Policy
from fastswitch.engine.policy_choices import VICTIMS
from fastswitch.engine.simulator.charged_scheduler import ChargedScheduler
from fastswitch.sched import MLFQ, Aging, ChunkedPrefill, Hysteresis, LeastBytes, Recompute, SwapOut

PLAIN = Policy("fcfs", "random", 0.04, "prefill-first", 8192, "swap-out", 0)


def test_fair_shares_have_their_weights_and_their_horizon():
    policy = replace(PLAIN, policy="vtc-preemptive", weights={"a": 2.0}, horizon=3)
    scheduler = policy.scheduler(copies=True)
    assert scheduler.ranker is scheduler.accountant
    assert (scheduler.ranker.horizon, scheduler.ranker.counters.weights) == (3, {"a": 2.0})
    assert replace(policy, policy="vtc").scheduler(copies=True).ranker.counters.weights == {"a": 2.0}


def test_nobody_who_has_aged_is_kept_out_by_a_threshold():
    scheduler = replace(PLAIN, aging=9, min_stay=5).scheduler(copies=True)
    aging, steady = scheduler.ranker, scheduler.ranker.ranker
    assert isinstance(aging, Aging)
    assert isinstance(steady, Hysteresis)
    assert (aging.max_wait, steady.min_stay, scheduler.accountant) == (9, 5, aging)


@pytest.mark.parametrize("part", ["policy", "priority", "packer", "evictor", "victims"])
def test_what_nobody_makes_is_refused(part):
    with pytest.raises(ValueError, match=f"^{part} must be one of .*, got 'lottery'$"):
        replace(PLAIN, **{part: "lottery"})


def test_what_is_added_to_a_table_can_be_asked_for(monkeypatch):
    monkeypatch.setitem(VICTIMS, "nobody", lambda ranker: LeastBytes(lambda _one, _other: False))
    assert isinstance(replace(PLAIN, victims="nobody").scheduler(copies=True).victims, LeastBytes)


def test_every_role_is_as_asked():
    policy = replace(PLAIN, packer="chunked", token_budget=64, victims="least-bytes")
    scheduler = policy.scheduler(copies=True)
    assert isinstance(scheduler.packer, ChunkedPrefill)
    assert (scheduler.packer.token_budget, type(scheduler.evictor)) == (64, SwapOut)
    assert isinstance(scheduler.victims, LeastBytes)
    assert isinstance(policy.scheduler(copies=False).evictor, Recompute)
    with pytest.raises(ValueError, match="^evictor 'cheapest' goes by what a switch takes: give costs$"):
        replace(policy, evictor="cheapest").scheduler(copies=True)


def test_mlfq_goes_by_the_profile():
    class Profile:
        decode_s = 0.5

        def prefill_s(self, num_tokens):
            return 0.25 * num_tokens

    ranker = replace(PLAIN, policy="mlfq", profile=Profile()).scheduler(copies=True).ranker
    assert isinstance(ranker, MLFQ)
    assert [ranker.queue_of_prompt(n) for n in (2, 3, 4)] == [0, 1, 1]


def test_one_whose_decisions_take_time_decides_with_the_same_parts():
    scheduler = replace(PLAIN, victims="least-bytes").scheduler(copies=True)
    charged = ChargedScheduler(scheduler, VirtualClock(), 1e-6)
    for name in ("ranker", "packer", "evictor", "accountant", "victims", "max_switches"):
        assert getattr(charged, name) is getattr(scheduler, name), name

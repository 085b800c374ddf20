"""The figures of clients: worked by hand once, and what must hold in every run of a comparison."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle

import numpy as np
import pytest

from fastswitch.engine import client_figures
from fastswitch.engine.experiment import Experiment
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.workloads import Workload
from tests.engine.simulator.small_bed import FREE_LINK, make_bed, make_plan, make_workload


def with_clients(workload, *client_ids):
    """The conversations with these clients, in turn."""
    conversations = [
        dataclasses.replace(each, client_id=client_ids[each.index % len(client_ids)]) for each in workload.conversations
    ]
    return Workload(workload.name, workload.seed, tuple(conversations))


def serve(workload, starts, runs, weights=None, **bed):
    bed = make_bed(link=FREE_LINK, **bed)
    policy = dataclasses.replace(bed.spec.policy, weights=weights or {})
    bed = dataclasses.replace(bed, spec=dataclasses.replace(bed.spec, policy=policy))
    experiment = Experiment("c", bed, workload, make_plan(workload, starts), [SIMULATED_RUNS[name] for name in runs])
    experiment.run_all()
    return experiment


def by_hand(weights=None):
    """One turn after the other, a second a token: a's two, then b's, each 6 + 2, then 2 of service."""
    workload = with_clients(make_workload([(6, 2)], [(6, 2)], [(6, 2)]), "a", "a", "b")
    run = serve(workload, (0, 0, 0), ["fastswitch"], weights, device_blocks=2, policy="fcfs")
    return run.results[0]["clients"], run


def test_a_run_that_is_worked_by_hand():
    clients, experiment = by_hand()
    assert (clients["service"], clients["jain"]) == (30, pytest.approx(0.9))
    assert clients["contended"] == pytest.approx(2 / 6)  # while a's second and b's wait
    assert (clients["max_gap"], clients["max_gap_at_s"]) == (10, 2)
    assert clients["jain_backlogged"] == {"window_s": 0, "n": 0, "mean": None, "min": None}
    a, b = clients["by_client"]
    assert (a["client_id"], a["turns"], a["input_tokens"], a["output_tokens"], a["service"]) == ("a", 2, 12, 4, 20)
    assert (b["client_id"], b["turns"], b["input_tokens"], b["output_tokens"], b["service"]) == ("b", 1, 6, 2, 10)
    assert (a["share"], b["share"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (a["ttft_s"]["max"], a["tbt_s"]["n"], a["tbt_s"]["max"], b["ttft_s"]["max"]) == (3, 2, 1, 5)
    assert set(a["switches"].values()) == {0}
    assert experiment.services["fastswitch"].client_ids == ("a", "b")


def test_service_is_compared_per_unit_of_weight():
    clients, experiment = by_hand({"a": 2.0})
    assert clients["jain"] == 1.0
    assert clients["max_gap"] == 5
    assert [client["weight"] for client in clients["by_client"]] == [2.0, 1.0]
    assert [client["service"] for client in clients["by_client"]] == [20, 10], "as it was"
    assert experiment.as_json()["policy"]["weights"] == {"a": 2.0}
    assert "weights" not in by_hand()[1].as_json()["policy"]


@functools.cache
def queue(policy, weight=1.0):
    """Ten turns of a's arrive before ten of b's; two are served at a time. What the JSON says of its clients."""
    workload = with_clients(make_workload(*[[(5, 6)]] * 20), *["a"] * 10, *["b"] * 10)
    run = serve(workload, [0] * 20, ["fastswitch"], {"a": weight}, device_blocks=6, policy=policy)
    return run.results[0]["clients"]


def test_a_fair_ranker_keeps_the_gap_small():
    fcfs, fair, preemptive = (queue(policy)["max_gap"] for policy in ("fcfs", "vtc", "vtc-preemptive"))
    assert fcfs > 100, "eight of a's ten turns, of 5 + 2 x 6 each, while b's first waits"
    assert fair <= 2 * max(5, 2 * 24), "the bound of VTC, of a pool of 24 tokens"
    assert max(fair, preemptive) < fcfs / 2


@pytest.mark.parametrize("policy", ["vtc", "vtc-preemptive"])
def test_a_fair_ranker_gives_by_weight(policy):
    entitled, alike = (
        {client["client_id"]: client["ttft_s"]["p50"] for client in queue(policy, weight)["by_client"]}
        for weight in (3.0, 1.0)
    )
    assert entitled["a"] < alike["a"], "who is due thrice as much waits less"
    assert entitled["b"] > alike["b"], "and the other one more"
    assert queue(policy, 3.0)["max_gap"] < queue("fcfs", 3.0)["max_gap"], "per unit of weight"


def test_windows_are_thirtieths_of_the_arrivals():
    # a's second and b's wait from second 0 to 2; a fourth conversation, of b's, starts at second 45
    workload = with_clients(make_workload([(6, 2)], [(6, 2)], [(6, 2)], [(6, 2)]), "a", "a", "b", "b")
    run = serve(workload, [0, 0, 0, 45], ["fastswitch"], device_blocks=2, policy="fcfs")
    windows = run.results[0]["clients"]["jain_backlogged"]
    # [0, 1.5): 8 and 0; [1.5, 3): 2 and 0; then a's second has what it waited for
    assert windows == {"window_s": 1.5, "n": 2, "mean": 0.5, "min": 0.5}


ROOMY, SHORT = 300, 8


@functools.cache
def served(host_blocks, seed=0):
    """Twelve conversations of four clients that push each other out, in every run."""
    lengths = np.random.default_rng(seed).integers(1, 9, size=(12, 3, 2)).tolist()
    workload = with_clients(make_workload(*[[tuple(turn) for turn in turns] for turns in lengths]), 3, "x", 7, 3)
    starts = [1.5 * index for index in range(12)]
    blocks = -(-workload.max_context // 4) + 2
    return serve(
        workload, starts, SIMULATED_RUNS, device_blocks=blocks, host_blocks=host_blocks, frequency=0.25, seed=seed
    )


@pytest.mark.parametrize("host_blocks", [ROOMY, SHORT])
def test_clients_get_what_they_asked_for_in_every_run(host_blocks):
    experiment = served(host_blocks)
    workload = experiment.workload
    recomputed = 0
    for run in experiment.results:
        by_client = {client["client_id"]: client for client in run["clients"]["by_client"]}
        assert set(by_client) == {3, "x", 7}
        for client_id, client in by_client.items():
            asked = [each for each in workload.conversations if each.client_id == client_id]
            assert client["turns"] == sum(len(each.turns) for each in asked)
            assert client["input_tokens"] == sum(each.input_tokens for each in asked)
            assert client["output_tokens"] == sum(each.output_tokens for each in asked)
            assert client["service"] == client["input_tokens"] + 2 * client["output_tokens"]
        assert run["clients"]["service"] == workload.input_tokens + 2 * workload.output_tokens
        assert sum(client["share"] for client in by_client.values()) == pytest.approx(1)
        recomputed += run["switches"]["recomputed_tokens"]
    assert recomputed > 0, "else nothing was there to be charged twice"


@pytest.mark.parametrize("host_blocks", [ROOMY, SHORT])
def test_switches_and_latencies_of_clients_are_those_of_the_run(host_blocks):
    for run in served(host_blocks).results:
        clients = run["clients"]["by_client"]
        for name in clients[0]["switches"]:
            assert sum(client["switches"][name] for client in clients) == run["switches"][name], (run["name"], name)
        for metric in ("ttft_s", "tbt_s"):
            assert sum(client[metric]["n"] for client in clients) == run[metric]["n"]
            assert max(client[metric]["max"] for client in clients) == run[metric]["max"]
        assert sum(run["switches"][name] for name in ("swap_outs", "clean_evictions", "drops")) > 0


def test_a_record_changes_nothing_of_a_run():
    experiment = served(ROOMY)
    plain = with_clients(experiment.workload, None)
    without = Experiment("c", experiment.bed, plain, experiment.plan, experiment.runs)
    without.run_all()
    for run, bare in zip(experiment.results, without.results, strict=True):
        assert "clients" not in bare
        assert {name: value for name, value in run.items() if name != "clients"} == bare
    assert without.services == {}


def test_more_clients_than_pairs_are_looked_at(monkeypatch):
    monkeypatch.setattr(client_figures, "MOST_CLIENTS", 1)
    clients = by_hand()[0]
    assert [clients[name] for name in ("contended", "max_gap", "max_gap_at_s", "jain_backlogged")] == [None] * 4
    assert clients["jain"] == pytest.approx(0.9)
    assert len(clients["by_client"]) == 2


def test_what_a_run_gave_goes_through_a_process_and_into_a_file():
    experiment = served(ROOMY)
    record = experiment.services["fastswitch"]
    copy = pickle.loads(pickle.dumps(record))  # noqa: S301
    assert copy.client_ids == record.client_ids
    assert np.array_equal(copy.service(), record.service())
    assert json.loads(json.dumps(experiment.as_json()))["runs"] == experiment.results

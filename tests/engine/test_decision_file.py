"""Schedules of runs in a file, and what ``--decisions`` writes."""

import gzip

import pytest

from fastswitch.engine.decision_file import read_decisions, write_decisions
from fastswitch.engine.options import SimulateOptions
from fastswitch.engine.presenting import write_files
from fastswitch.engine.simulator.prepare import prepare_simulation
from fastswitch.sched import Decision, first_difference

SCHEDULES = {
    "paper": (Decision(0, (1, 0), (), (), (1, 0), ((1, 0, 4),)), Decision(1, (1, 0), ((0, "swap_out"),), (), (), ())),
    "fastswitch": (Decision(0, (0, 1), (), (1,), (0,), ((0, 0, 2), (1, 3, 1))),),
}


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_comes_back_run_by_run(name, tmp_path):
    write_decisions(SCHEDULES, tmp_path / name)
    assert {run: tuple(found) for run, found in read_decisions(tmp_path / name).items()} == SCHEDULES
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "rt") as file:
        assert len(file.readlines()) == 3


@pytest.mark.parametrize("line", ["nonsense", '{"iteration":0}', '{"run":"paper","iteration":0}', "[]"])
def test_a_bad_line_is_named(line, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text(SCHEDULES["paper"][0].to_json(run="paper") + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"s\.jsonl:2: "):
        read_decisions(path)


def test_a_run_with_free_copies_decides_as_it_did_before(tmp_path):
    """The same command twice gives the same schedule, and another seed another one; every token is in it once."""

    def schedule(seed):
        path = tmp_path / f"{seed}.jsonl"
        options = SimulateOptions(
            command="test",
            setup="llama8b-a10",
            conversations=12,
            scale=0.2,
            device_tokens=1600,
            rate=5.0,
            seed=seed,
            runs="fastswitch",
            decisions=path,
        )
        experiment = prepare_simulation(options)
        experiment.run_all()
        write_files(experiment, options, "test")
        return experiment, read_decisions(path)["fastswitch"]

    experiment, first = schedule(0)
    assert first_difference(first, schedule(0)[1]) is None
    assert first_difference(first, schedule(1)[1]) is not None
    figures = experiment.results[0]
    assert len(first) == figures["iterations"]
    assert [decision.iteration for decision in first] == list(range(len(first)))
    switches = figures["switches"]
    evicted = sum(len(decision.evicted) for decision in first)
    assert evicted == switches["swap_outs"] + switches["clean_evictions"] + switches["drops"] > 0

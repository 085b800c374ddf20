"""What is done is not done again, unless something that decides its figures has changed."""

import dataclasses

import numpy as np
import pytest

from fastswitch.engine.reproduce import finished as module
from fastswitch.engine.reproduce import outcome as outcome_module
from fastswitch.engine.reproduce.case import Simulation
from fastswitch.engine.reproduce.finished import Finished
from tests.engine.reproduce import made_up


@pytest.fixture
def simulation():
    return Simulation(made_up.case().options, "fastswitch")


def test_an_outcome_comes_back_as_it_was(tmp_path, simulation):
    kept = made_up.outcome("fastswitch", num=30_000)
    store = Finished(tmp_path / "deep" / "er")
    assert store.find(simulation) is None
    store.keep(simulation, kept)
    found = Finished(tmp_path / "deep" / "er").find(simulation)
    assert found.figures == kept.figures
    for metric, samples in kept.samples.items():
        assert np.array_equal(found.samples[metric].values, samples.values)
        assert np.array_equal(found.samples[metric].weights, samples.weights)
        assert found.samples[metric].whole_from == samples.whole_from


@pytest.mark.parametrize("changed", [{"seed": 1}, {"rate": 2.0}, {"call_us": 1.0}, {"host_tokens": 999}])
def test_other_options_are_another_simulation(tmp_path, simulation, changed):
    Finished(tmp_path).keep(simulation, made_up.outcome("fastswitch"))
    other = Simulation(dataclasses.replace(simulation.options, **changed), "fastswitch")
    assert Finished(tmp_path).find(other) is None
    assert Finished(tmp_path).find(dataclasses.replace(simulation, run="paper")) is None


def test_other_code_is_another_simulation(tmp_path, simulation, monkeypatch):
    Finished(tmp_path).keep(simulation, made_up.outcome("fastswitch"))
    monkeypatch.setattr(module, "_source_digest", lambda: "of tomorrow")
    assert Finished(tmp_path).find(simulation) is None


def test_the_code_that_decides_is_looked_at(tmp_path, monkeypatch):
    def digest():
        module._source_digest.cache_clear()
        return module._source_digest()

    for name in ("engine/reproduce/report.py", "engine/reproduce/outcome.py", "memory/manager.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(module.fastswitch, "__file__", str(tmp_path / "__init__.py"))
    try:
        before = digest()
        (tmp_path / "engine/reproduce/report.py").write_text("new")
        assert digest() == before, "a report decides no figure"
        for name in ("engine/reproduce/outcome.py", "memory/manager.py"):
            (tmp_path / name).write_text("new")
            assert digest() != before, name
            before = digest()
    finally:
        module._source_digest.cache_clear()


def test_another_trace_of_the_same_name_is_another_simulation(tmp_path):
    trace = tmp_path / "trace.csv"
    options = dataclasses.replace(made_up.case().options, workload=str(trace))
    store = Finished(tmp_path)
    trace.write_text("input_tokens,output_tokens\n1,1\n")
    store.keep(Simulation(options, "paper"), made_up.outcome("paper"))
    trace.write_text("input_tokens,output_tokens\n1,2\n")
    module._file_digest.cache_clear()
    assert store.find(Simulation(options, "paper")) is None


def test_a_disk_that_refuses_leaves_nothing_half_written(tmp_path, simulation, monkeypatch):
    store = Finished(tmp_path)
    monkeypatch.setattr(outcome_module.np, "savez_compressed", refuse)
    with pytest.raises(OSError, match="full"):
        store.keep(simulation, made_up.outcome("fastswitch"))
    assert list(tmp_path.iterdir()) == []


def refuse(file, **_arrays):
    file.write(b"a part of it")
    raise OSError("full")


def test_two_commands_write_one_simulation_into_one_folder(tmp_path, simulation, monkeypatch):
    """The second begins and ends while the first still writes."""
    store, write = Finished(tmp_path), np.savez_compressed

    def meanwhile(file, **arrays):
        file.write(b"begun")
        monkeypatch.setattr(outcome_module.np, "savez_compressed", write)
        store.keep(simulation, made_up.outcome("fastswitch"))
        file.seek(0)
        write(file, **arrays)

    monkeypatch.setattr(outcome_module.np, "savez_compressed", meanwhile)
    store.keep(simulation, made_up.outcome("fastswitch"))
    assert store.find(simulation) is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_whole_is_made_again(tmp_path, simulation):
    store = Finished(tmp_path)
    store.keep(simulation, made_up.outcome("fastswitch"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert store.find(simulation) is None
    path.write_bytes(b"")
    assert store.find(simulation) is None

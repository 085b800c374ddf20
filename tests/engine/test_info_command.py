"""``fastswitch info`` and the help: what is there, what is missing, and examples that are true."""

import importlib.metadata
import json
import re
import shlex

import pytest
import torch

from fastswitch.engine import machine_facts
from fastswitch.engine.help_panels import PANELS, arrange_help
from fastswitch.kernels import TRANSFERS, costs_path

typer = pytest.importorskip("typer")  # where only the GPU tests are to run it need not be there
cli = pytest.importorskip("fastswitch.engine.cli")
COMMANDS = arrange_help(typer.main.get_command(cli.app)).commands


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_says_what_there_is_and_writes_it(run, tmp_path):
    status, out, err = run("info", "--json", tmp_path / "f.json")
    assert (status, err) == (0, "")
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["schema"] == 1
    assert facts["environment"]["torch"] == torch.__version__
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", out, re.MULTILINE)
    assert facts["ways"].keys() == TRANSFERS.keys()
    for each in facts["missing"]:
        assert f"{each['what']}; to get it: {each['get']}" in out
    assert not costs_path().exists(), "it measured"


def test_costs_that_were_measured_are_named_with_what_they_choose(run):
    assert "a table of copy costs; to get it: fastswitch calibrate" in run("info")[1]
    assert run("calibrate", "--device", "cpu")[0] == 0
    facts = machine_facts.machine_facts()
    if facts["device"] is None:
        assert facts["costs"]["usable"]
        assert set(facts["costs"]["chosen"].values()) <= TRANSFERS.keys()
        assert str(costs_path()) in run("info")[1]


def test_a_broken_table_is_said_to_be_one(run):
    path = costs_path()
    path.parent.mkdir(parents=True)
    path.write_text("{")
    status, out, _ = run("info")
    assert status == 0
    assert "a table of copy costs that can be read; to get it: fastswitch calibrate" in out


def test_a_package_that_is_not_there_comes_with_its_extra(run, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "transformers":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, out, _ = run("info")
    assert status == 0
    assert "transformers; to get it: pip install 'fastswitch[engine]'" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(run):
    out = run("info")[1]
    assert "no GPU: tensors stay on the CPU" in out
    assert "a GPU; to get it: a CUDA device, its driver and a CUDA build of torch" in out


def test_a_file_that_cannot_be_written_is_one_line(run):
    assert run("info", "--json", "/nowhere/f.json")[::2] == (
        2,
        "fastswitch: cannot write /nowhere/f.json: No such file or directory; choose another path\n",
    )


def test_without_a_command_there_is_help(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^│ {name} ", out, re.MULTILINE), name


def test_the_version(run):
    from fastswitch import __version__

    assert run("--version") == (0, f"fastswitch {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_its_examples_are_commands_of_it(name):
    head, *lines = COMMANDS[name].epilog.split("\n\n")
    assert head == "Examples:"
    assert lines
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("fastswitch", name)
        COMMANDS[name].make_context(name, arguments)  # raises if an option is unknown or a value of no use


def test_panels_name_options_that_there_are():
    options = {option.name for command in COMMANDS.values() for option in command.params}
    assert {name for names in PANELS.values() for name in names} <= options

"""What several of the engine's tests drive it with."""

import sys

import pytest
import torch

from tests.engine.gated_copies import Gated


@pytest.fixture
def gated():
    """A transfer whose copies stand still while a gate is closed; all open in the end."""
    transfer = Gated()
    yield transfer
    for gate in transfer.gates.values():
        gate.set()


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls the console script's entry in this process; gives back (status, stdout, stderr)."""
    from fastswitch.engine import cli

    threads = torch.get_num_threads()

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["fastswitch", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    yield call
    torch.set_num_threads(threads)

"""Measuring this machine, and remembering it: what is stale or broken is measured anew."""

from __future__ import annotations

import json

import pytest
import torch

from fastswitch.kernels import DIRECTIONS, TransferCosts, choose_transfer, transfer_costs, why_not
from fastswitch.kernels.choose_transfer import machine_of
from fastswitch.kernels.measure_transfers import CHOICES, _scattered, _scattered_on_device
from tests.kernels.backends import gpu

CPU = torch.device("cpu")
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])


@pytest.fixture
def forget():
    """As a new process would."""
    from fastswitch.kernels.choose_transfer import _of_this_process

    _of_this_process.cache_clear()
    yield _of_this_process.cache_clear
    _of_this_process.cache_clear()


@on_every_device
def test_measures_every_way_that_works_here_and_remembers(device, tmp_path, forget):
    costs = transfer_costs(device, folder=tmp_path)
    possible = [way for way in CHOICES if why_not(way, device) is None]
    assert {direction: list(ways) for direction, ways in costs.ways.items()} == dict.fromkeys(DIRECTIONS, possible)
    (path,) = tmp_path.iterdir()
    assert TransferCosts.from_json(json.loads(path.read_text(encoding="utf-8"))) == costs
    assert transfer_costs(device, folder=tmp_path) is costs
    forget()
    assert transfer_costs(device, folder=tmp_path) == costs  # read, not measured: no two measurements are equal


def test_anew_measures_again(tmp_path, forget):
    first = transfer_costs("cpu", folder=tmp_path)
    again = transfer_costs("cpu", folder=tmp_path, anew=True)
    assert again != first
    forget()
    assert transfer_costs("cpu", folder=tmp_path) == again


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b'{"machine": {}, "ways": {}}'],
)
def test_a_broken_cache_is_measured_anew(content, tmp_path, forget):
    transfer_costs("cpu", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    forget()
    costs = transfer_costs("cpu", folder=tmp_path)
    assert TransferCosts.from_json(json.loads(path.read_text(encoding="utf-8"))) == costs


@pytest.mark.parametrize("fact", ["torch", "triton", "device", "fastswitch", "schema"])
def test_a_stale_cache_is_measured_anew(fact, tmp_path, forget):
    first = transfer_costs("cpu", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    data = first.as_json()
    data["machine"][fact] = "of another day"
    path.write_text(json.dumps(data), encoding="utf-8")
    forget()
    assert transfer_costs("cpu", folder=tmp_path).machine == machine_of(CPU)


def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path, forget):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    assert choose_transfer(DIRECTIONS[0], 1, 4096, costs=transfer_costs("cpu", folder=in_the_way / "folder")) in CHOICES


def test_what_is_measured_is_scattered():
    runs = _scattered(8, 4, 64)
    assert sorted(runs[:, 0]) == sorted(runs[:, 1]) == [0, 8, 16, 24, 32, 40, 48, 56]
    assert runs[:, 0].tolist() != runs[:, 1].tolist()
    single = _scattered_on_device(runs, host_is_source=False)
    assert len(single) == 32
    assert sorted(single[:, 1]) == sorted(block for start in runs[:, 1] for block in range(start, start + 4))
    assert len(set(single[:, 0])) == 32
    assert single[:, 0].max() < 64


def test_loading_the_kernels_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    import fastswitch.kernels

    assert fastswitch.kernels.choose_transfer
    assert not list(tmp_path.iterdir())

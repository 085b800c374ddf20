"""The engine on a real GPU: real streams, pinned host memory, the same tokens."""

import dataclasses

import pytest

from fastswitch.engine.bench import prepare
from fastswitch.engine.options import BenchOptions

OPTIONS = BenchOptions(
    command="test",
    device="cuda",
    dtype="float64",
    conversations=6,
    scale=0.05,
    block_size=4,
    device_tokens=320,
    frequency=0.5,
    check=True,
)


@pytest.mark.gpu
def test_every_run_gives_the_tokens_of_the_cpu_and_requests_are_switched():
    experiment = prepare(OPTIONS)
    experiment.run_all()
    assert experiment.same_tokens()
    on_cpu = prepare(dataclasses.replace(OPTIONS, device="cpu", link="none", runs="recompute"))
    on_cpu.run_all()
    assert experiment.results[0]["tokens_sha256"] == on_cpu.results[0]["tokens_sha256"]
    switches = {result["name"]: result["switches"] for result in experiment.results}
    assert all(counts["failed"] == 0 for counts in switches.values())
    assert all(switches[name]["swap_ins"] > 0 for name in switches if name != "recompute")

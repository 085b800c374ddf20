"""The engine on a real GPU: real streams, pinned host memory, the same tokens."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from fastswitch.engine.bench import prepare
from fastswitch.engine.chrome_trace import trace_events
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.swap import SwapCoordinator
from fastswitch.engine.token_check import equivalent
from fastswitch.engine.trace_check import check_trace
from fastswitch.kernels import TRANSFERS, TRANSPOSING, why_not
from fastswitch.memory import KVLayout, SegmentRange, SwapDirection, SwapJob
from fastswitch.memory.pool import KVPool

OPTIONS = BenchOptions(
    command="test",
    device="cuda",
    dtype="float64",
    conversations=4,
    scale=0.01,
    block_size=4,
    device_tokens=60,
    frequency=0.5,
    check=True,
)


@pytest.mark.gpu
def test_every_run_gives_the_tokens_of_the_cpu_and_requests_are_switched():
    experiment, _ = prepare(OPTIONS)
    experiment.run_all()
    assert experiment.same_tokens()
    on_cpu, _ = prepare(dataclasses.replace(OPTIONS, device="cpu", link="none", runs="recompute"))
    on_cpu.run_all()
    assert experiment.results[0]["tokens_sha256"] == on_cpu.results[0]["tokens_sha256"]
    switches = {result["name"]: result["switches"] for result in experiment.results}
    assert all(counts["failed"] == 0 for counts in switches.values())
    assert all(switches[name]["swap_ins"] > 0 for name in switches if name != "recompute")


@pytest.mark.gpu
def test_the_timeline_of_every_run_is_whole():
    experiment, _ = prepare(dataclasses.replace(OPTIONS, runs="+groups,paper,fastswitch", trace_out=Path("t.json")))
    experiment.run_all()
    assert list(experiment.timelines) == [result["name"] for result in experiment.results]
    check_trace({"traceEvents": list(trace_events(experiment.timelines))})
    for result in experiment.results:
        copied = [each for each in experiment.timelines[result["name"]].switches if each.copied]
        assert len(copied) == sum(result["switches"][name] for name in ("swap_outs", "swap_ins", "ahead"))
        assert sum(each.copy_s for each in copied) == pytest.approx(result["switches"]["copy_s"])
        # the compute stream's own waits are in the run's stall alone
        assert sum(each.stall_s for each in copied) <= result["switches"]["stall_s"] + 1e-3 * len(copied)


@pytest.mark.gpu
def test_the_triton_attention_gives_equivalent_tokens_in_every_run():
    experiment, _ = prepare(dataclasses.replace(OPTIONS, dtype="float32"))
    experiment.run_all()
    assert equivalent(experiment, experiment.bed)
    assert all(result["switches"]["failed"] == 0 for result in experiment.results)


ORDERS = ("block_major", "layer_major")
WAYS_AND_ORDERS = [
    (way, *orders)
    for way, orders in itertools.product([*TRANSFERS, "chosen"], itertools.product(ORDERS, ORDERS))
    if orders[0] == orders[1] or way in (*TRANSPOSING, "chosen")
]


@pytest.mark.gpu
@pytest.mark.parametrize("swaps_class", [SwapCoordinator, InlineSwaps])
@pytest.mark.parametrize(("way", "device_order", "host_order"), WAYS_AND_ORDERS)
def test_a_swap_out_and_in_again_brings_every_byte_back(
    way, device_order, host_order, swaps_class, tmp_path, monkeypatch
):
    """Through pinned pools, on the swaps' own streams, right behind the work that writes the KV."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if way in TRANSFERS and (reason := why_not(way, "cuda")) is not None:
        pytest.skip(reason)
    layout = KVLayout(4, 2, 64, 16, "bfloat16")
    device = KVPool(dataclasses.replace(layout, order=device_order), 64, "cuda")
    host = KVPool(dataclasses.replace(layout, order=host_order), 128, pinned=True)
    runs = np.array([[0, 70, 5], [9, 3, 1], [20, 40, 8], [63, 2, 1]])
    ids = torch.from_numpy(np.concatenate([np.arange(start, start + n) for start, _, n in runs])).cuda()
    written = torch.randn(len(ids), *device.blocks.shape[1:], device="cuda").bfloat16()
    with_swaps = swaps_class(device, host, transfer=way)
    try:
        for round_trip in range(3):
            device.blocks[ids] = written + round_trip  # enqueued; the copy has to wait for it
            out = SwapJob(2 * round_trip, 0, SwapDirection.SWAP_OUT, (SegmentRange(0, 0, 1),), runs)
            with_swaps.submit(out)
            with_swaps.wait([out])
            with_swaps.landed()
            device.blocks[ids] = float("nan")
            back = SwapJob(2 * round_trip + 1, 0, SwapDirection.SWAP_IN, (SegmentRange(0, 0, 1),), runs[:, [1, 0, 2]])
            with_swaps.submit(back)
            with_swaps.wait([back])
            assert all(report.error is None for report in with_swaps.landed())
            assert torch.equal(device.blocks[ids], written + round_trip)
    finally:
        with_swaps.close()


@pytest.mark.gpu
def test_a_swap_in_behind_a_swap_out_overwrites_only_what_has_been_read():
    """Two streams, and nothing but the one event between them: 512 MiB out, and 512 MiB into the same blocks."""
    layout = KVLayout(num_layers=8, num_kv_heads=8, head_dim=128, block_size=64, dtype="bfloat16")
    num_blocks = 256
    device_pool, host_pool = KVPool(layout, num_blocks, "cuda"), KVPool(layout, 2 * num_blocks, pinned=True)
    device_pool.fill(range(num_blocks), 1.0)
    host_pool.fill(range(num_blocks), 2.0)
    entry = (SegmentRange(0, 0, num_blocks * layout.block_size),)
    runs = np.array([[0, num_blocks, num_blocks]], np.int64), np.array([[0, 0, num_blocks]], np.int64)
    with SwapCoordinator(device_pool, host_pool, transfer="per_run") as swaps:
        out = SwapJob(0, 0, SwapDirection.SWAP_OUT, entry, runs[0])
        back = SwapJob(1, 1, SwapDirection.SWAP_IN, entry, runs[1], (out,))
        futures = [swaps.submit(out), swaps.submit(back)]
        assert all(future.result(60.0).error is None for future in futures)
        assert [report.job for report in swaps.landed()] == [out, back]
    assert torch.all(host_pool.blocks[num_blocks:] == 1.0)
    assert torch.all(device_pool.blocks == 2.0)

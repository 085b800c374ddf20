"""What a preset calibrated on a machine adds to the simulator: nothing hidden, host work, noise."""

from dataclasses import replace

import numpy as np
import pytest

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.simulator import CopyWork, IterationWork, LinkCosts, ModelShape, Roofline, RooflineExecutor
from fastswitch.memory import SwapDirection, SwapJob

SHAPE = ModelShape("tiny", "tiny", 8, 128, 8, 4, 32, 256, 512, 8, "float64", "the test", 1024)
PRESET = Roofline(SHAPE, flops=1e9, bytes_per_s=1e9, iteration_s=1e-3)
PROMPT, TOKEN = (0, 20, True), (30, 1, True)


def job(*runs):
    return SwapJob(0, 0, SwapDirection.SWAP_OUT, (), np.array(runs, np.int64))


@pytest.mark.parametrize("batch", [[PROMPT], [TOKEN] * 3, [PROMPT, TOKEN]])
def test_what_overlaps_is_hidden(batch):
    work = IterationWork.of(SHAPE, batch)
    computing_s, reading_s = work.flops / 1e9, work.moved_bytes / 1e9
    assert PRESET.seconds(batch) == pytest.approx(1e-3 + max(computing_s, reading_s))
    assert replace(PRESET, overlap=0.0).seconds(batch) == pytest.approx(1e-3 + computing_s + reading_s)


def test_decodes_are_padded_to_the_longest():
    batch = [(30, 1, True), (9, 1, True), (14, 1, True), (200, 5, True)]
    missing = SHAPE.kv_token_bytes * (21 + 16)
    padded = replace(PRESET, flops=np.inf, padding=1.0)
    assert padded.seconds(batch) - replace(padded, padding=0.0).seconds(batch) == pytest.approx(missing / 1e9)


def test_host_work_counts_requests_and_chunks():
    batch = [PROMPT, TOKEN, TOKEN]
    slower = replace(PRESET, request_s=0.01, chunk_s=0.1)
    assert slower.seconds(batch) - PRESET.seconds(batch) == pytest.approx(3 * 0.01 + 0.1)


def test_noise_is_played_again_and_again():
    clock = VirtualClock()
    executor = RooflineExecutor(PRESET, clock, max_context=100, noise=(1.0, 2.5))
    entry = BatchEntry(0, 30, 1, True, KnownTokens([1], np.arange(8, dtype=np.int32), first=30))
    seconds = []
    for _ in range(5):
        start = clock.now()
        executor.run([entry])
        seconds.append(clock.now() - start)
    assert seconds == pytest.approx([PRESET.seconds([TOKEN]) * factor for factor in (1.0, 2.5, 1.0, 2.5, 1.0)])


@pytest.mark.parametrize("way", ["per_run", "per_block", "chosen"])
def test_work_comes_on_top_and_does_not_choose(way):
    layout, work = SHAPE.kv_layout(4, "layer_major"), CopyWork(1e-3, 1e-4, 1e-9)
    link, moved = EmulatedLink(call_us=40, gbps=1), job((0, 0, 3), (5, 9, 1))
    bare, worked = (LinkCosts(link, layout, way, each).of(moved) for each in (None, work))
    assert (worked.way, worked.copies, worked.calls) == (bare.way, bare.copies, bare.calls)
    assert worked.seconds - bare.seconds == pytest.approx(1e-3 + 1e-4 * bare.copies + 1e-9 * 4 * layout.block_bytes)

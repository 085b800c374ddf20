"""The guarantees at the head of ``swap.py``, one by one, and the two fences of a copy, with streams that are lazy."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest
import torch

from fastswitch.engine import EmulatedLink, InlineSwaps, SwapCoordinator
from fastswitch.kernels import per_block, per_run
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool
from tests.engine.doubles import FakeClock
from tests.engine.gated_copies import IN, LAYOUT, OUT, PATIENCE_S, make_job, make_pools
from tests.engine.lazy_streams import LazyStreams, lazy_transfer


@pytest.fixture
def swaps(gated):
    device, host = make_pools()
    with SwapCoordinator(device, host, transfer=gated) as coordinator:
        yield coordinator
        for gate in gated.gates.values():
            gate.set()


# The fences


@pytest.fixture
def lazy():
    streams = LazyStreams()
    device, host = make_pools()
    with SwapCoordinator(device, host, transfer=lazy_transfer, streams=streams) as coordinator:
        yield coordinator, streams, device, host
        streams.host_may_wait.set()


def test_swap_out_copies_what_compute_was_about_to_write(lazy):
    swaps, streams, device, host = lazy
    streams.compute.enqueue(lambda: device.fill([0], 7.0))
    swaps.submit(make_job(0, OUT)).result(PATIENCE_S)
    assert torch.equal(host.blocks[0], torch.full_like(host.blocks[0], 7.0))


def test_a_swap_in_overwrites_only_what_compute_has_read(lazy):
    swaps, streams, device, _ = lazy
    read = []
    streams.compute.enqueue(lambda: read.append(device.blocks[0].clone()))
    swaps.submit(make_job(0, IN)).result(PATIENCE_S)
    assert torch.equal(read[0], torch.full_like(read[0], 1.0))


def test_a_job_has_landed_when_its_bytes_have(lazy):
    swaps, _, device, _ = lazy
    swaps.submit(make_job(0, IN)).result(PATIENCE_S)
    assert [report.job.job_id for report in swaps.landed()] == [0]
    assert torch.equal(device.blocks[0], torch.full_like(device.blocks[0], 2.0))


def test_a_job_has_not_landed_while_its_bytes_have_not(lazy):
    swaps, streams, _, _ = lazy
    streams.host_may_wait.clear()
    swaps.submit(make_job(0, IN))
    assert swaps.landed() == []
    streams.swap_in.finish()
    streams.host_may_wait.set()


def test_compute_after_wait_reads_the_copied_bytes(lazy):
    swaps, streams, device, _ = lazy
    streams.host_may_wait.clear()  # the copy thread has enqueued the copies and cannot wait for them
    job = make_job(0, IN)
    future = swaps.submit(job)
    swaps.wait([job])
    assert not future.done()
    assert [report.job for report in swaps.landed()] == [job]
    read = []
    streams.compute.enqueue(lambda: read.append(device.blocks[0].clone()))
    streams.compute.finish()
    assert torch.equal(read[0], torch.full_like(read[0], 2.0))
    streams.host_may_wait.set()
    assert future.result(PATIENCE_S).job is job
    assert swaps.landed() == []  # each job is reported once


def test_a_job_that_fails_half_way_is_reported_when_its_copies_are_over():
    streams = LazyStreams()
    device, host = make_pools()

    def half(src_planes, dst_planes, runs):
        lazy_transfer(src_planes, dst_planes, runs)
        raise OSError("half-way")

    with SwapCoordinator(device, host, transfer=half, streams=streams) as swaps:
        future = swaps.submit(make_job(0, IN))
        assert isinstance(future.exception(PATIENCE_S), OSError)
        device.fill([0], 5.0)  # the block is somebody else's now
        streams.swap_in.finish()
        assert torch.equal(device.blocks[0], torch.full_like(device.blocks[0], 5.0))


# Guarantee 1: submit returns at once


@pytest.mark.parametrize("direction", [OUT, IN])
def test_submit_copies_nothing_on_the_callers_thread(swaps, gated, direction):
    gated.hold(0)
    future = swaps.submit(make_job(0, direction))
    assert gated.started[0].wait(PATIENCE_S)
    assert not future.done()
    assert swaps.landed() == []
    gated.gates[0].set()
    report = future.result(PATIENCE_S)
    assert (report.way, report.num_bytes, report.copies, report.calls) == ("Gated", LAYOUT.block_bytes, 1, 1)
    assert gated.threads == [f"fastswitch-{'swap-out' if direction is OUT else 'swap-in'}"]
    assert swaps.landed() == [report]
    assert swaps.landed() == []


# Guarantee 2: every future is settled


def test_a_copy_that_raises_fails_its_own_job_only(swaps, gated):
    gated.errors[1] = OSError("the link broke")
    futures = [swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(3)]
    assert futures[1].exception(PATIENCE_S) is gated.errors[1]
    assert [futures[index].result(PATIENCE_S).job.job_id for index in (0, 2)] == [0, 2]
    errors = {report.job.job_id: report.error for report in swaps.landed()}
    assert errors == {0: None, 1: gated.errors[1], 2: None}


def test_a_dead_thread_fails_what_it_held_and_refuses_more(swaps, gated):
    gated.hold(0)
    gated.errors[0] = SystemExit("killed")
    futures = [swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(3)]
    gated.gates[0].set()
    for future in futures:
        assert future.exception(PATIENCE_S) is gated.errors[0]
    assert [report.error for report in swaps.landed()] == [gated.errors[0]] * 3
    message = r"^fastswitch-swap-out has ended \(SystemExit\('killed'\)\): no copies are possible any more$"
    with pytest.raises(RuntimeError, match=message):
        swaps.submit(make_job(3, OUT))
    assert swaps.submit(make_job(4, IN, [(3, 3, 1)])).result(PATIENCE_S).error is None  # the other direction lives


def test_nobody_can_cancel_a_copy(swaps, gated):
    gated.hold(0)
    first, second = (swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(2))
    assert not second.cancel()
    gated.gates[0].set()
    assert first.result(PATIENCE_S).job.job_id == 0
    assert second.result(PATIENCE_S).job.job_id == 1


def test_close_lets_queued_jobs_finish_and_is_idempotent(swaps, gated):
    gated.hold(0)
    futures = [swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(3)]
    gated.gates[0].set()
    swaps.close()
    swaps.close()
    assert [future.result(0).job.job_id for future in futures] == [0, 1, 2]
    message = r"^fastswitch-swap-in has ended \(RuntimeError\('closed'\)\): no copies are possible any more$"
    with pytest.raises(RuntimeError, match=message):
        swaps.submit(make_job(3, IN))


def test_close_gives_up_a_copy_that_hangs(swaps, gated):
    gated.hold(0)
    futures = [swaps.submit(make_job(block, OUT, [(block, block, 1)])) for block in range(2)]
    assert gated.started[0].wait(PATIENCE_S)
    swaps.close(timeout_s=0.01)
    for future in futures:
        with pytest.raises(RuntimeError, match=r"^fastswitch-swap-out was closed before the job had ended$"):
            future.result(0)
    gated.gates[0].set()
    swaps.close()  # the thread wakes, finds that it was given up, and ends
    assert isinstance(futures[0].exception(0), RuntimeError)
    assert gated.served == [0]


# Guarantee 3: order, and the two directions side by side


def test_jobs_of_one_direction_run_in_order(swaps, gated):
    gated.hold(3)
    order = [3, 1, 2, 0]
    futures = [swaps.submit(make_job(index, OUT, [(block, block, 1)])) for index, block in enumerate(order)]
    assert gated.started[3].wait(PATIENCE_S)
    assert gated.served == []
    gated.gates[3].set()
    for future in futures:
        future.result(PATIENCE_S)
    assert gated.served == order
    assert [report.job.job_id for report in swaps.landed()] == [0, 1, 2, 3]


def test_wait_blocks_for_its_jobs_only(swaps, gated):
    gated.hold(1)
    held = swaps.submit(make_job(0, OUT, [(1, 1, 1)]))
    assert gated.started[1].wait(PATIENCE_S)
    wanted = make_job(1, IN, [(2, 2, 1)])
    swaps.submit(wanted)
    swaps.wait([wanted])
    assert [report.job for report in swaps.landed()] == [wanted]
    assert not held.done()


def test_copy_comes_back_when_the_bytes_are_there_and_reports_nothing_twice(swaps, gated):
    other = make_job(1, OUT, [(1, 1, 1)])
    future = swaps.submit(other)
    report = swaps.copy(make_job(0, IN))
    assert (report.error, report.num_bytes) == (None, LAYOUT.block_bytes)
    future.result(PATIENCE_S)
    assert [each.job for each in swaps.landed()] == [other]


def test_copy_waits_for_the_copies_and_not_for_their_being_enqueued(lazy):
    swaps, _, device, _ = lazy
    swaps.copy(make_job(0, IN))
    assert torch.equal(device.blocks[0], torch.full_like(device.blocks[0], 2.0))


def test_copy_that_fails_raises_and_is_not_reported_again(swaps, gated):
    gated.errors[0] = OSError("the link broke")
    with pytest.raises(OSError, match="the link broke"):
        swaps.copy(make_job(0, OUT))
    assert swaps.landed() == []
    assert swaps.copy(make_job(1, OUT, [(1, 1, 1)])).error is None


def test_copy_that_is_interrupted_ends_when_nobody_touches_the_blocks_any_more(swaps, gated, monkeypatch):
    gated.hold(0)
    futures, submit, wait = [], swaps.submit, concurrent.futures.wait

    def noting(job):
        futures.append(submit(job))
        return futures[0]

    def interrupted(future, timeout=None):
        assert not future.done()
        raise KeyboardInterrupt

    def let_go_and_wait(waited_for):
        gated.gates[0].set()
        return wait(waited_for)

    monkeypatch.setattr(swaps, "submit", noting)
    monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
    monkeypatch.setattr(concurrent.futures, "wait", let_go_and_wait)
    with pytest.raises(KeyboardInterrupt):
        swaps.copy(make_job(0, OUT))
    assert futures[0].done()
    assert swaps.landed() == []


def test_copy_refuses_what_comes_after_a_job_that_is_not_over(swaps, gated):
    gated.hold(0)
    before = make_job(0, OUT)
    future = swaps.submit(before)
    later = make_job(1, IN, after=(before,))
    with pytest.raises(ValueError, match=r"^job 1 comes after job 0, which is not over: wait until landed"):
        swaps.copy(later)
    gated.gates[0].set()
    future.result(PATIENCE_S)
    assert [report.job for report in swaps.landed()] == [before]
    assert swaps.copy(later).error is None


def test_seconds_in_copy_are_stall(gated):
    clock, (device, host) = FakeClock(), make_pools()

    def slow(src_planes, dst_planes, runs):
        clock.sleep(3.0)
        return per_run(src_planes, dst_planes, runs)

    with SwapCoordinator(device, host, transfer=slow, clock=clock) as swaps:
        swaps.copy(make_job(0, OUT))
        assert swaps.stall_s == 3.0


def test_wait_any_wakes_for_the_first_job_that_ends(swaps, gated):
    swaps.wait_any(None)  # nothing is under way
    gated.hold(1)
    held = swaps.submit(make_job(0, OUT, [(1, 1, 1)]))
    swaps.submit(make_job(1, IN, [(2, 2, 1)]))
    swaps.wait_any(PATIENCE_S)
    assert not held.done()
    assert [report.job.job_id for report in swaps.landed()] == [1]
    swaps.wait_any(0.0)  # nothing ends, and it comes back
    assert not held.done()


def test_wait_on_a_job_that_failed_returns(swaps, gated):
    gated.errors[0] = OSError("the link broke")
    job = make_job(0, OUT)
    swaps.submit(job)
    swaps.wait([job])
    assert [report.error for report in swaps.landed()] == [gated.errors[0]]


# Synchronous swaps


def test_inline_job_has_landed_on_return_and_its_seconds_are_stall():
    clock = FakeClock()
    device, host = make_pools()
    link = EmulatedLink(call_us=250_000.0, gbps=1.0)
    swaps = InlineSwaps(device, host, transfer="per_run", link=link, clock=clock)
    job = make_job(0, IN, [(0, 1, 2), (3, 0, 1)])
    future = swaps.submit(job)
    assert torch.equal(device.blocks[:3], torch.full_like(device.blocks[:3], 2.0))
    report = future.result(0)
    assert swaps.landed() == [report]
    assert swaps.landed() == []
    assert (report.job, report.copies, report.calls, report.num_bytes) == (job, 2, 2, 3 * LAYOUT.block_bytes)
    assert (swaps.stall_s, report.copy_s, report.queue_s) == (0.5, 0.5, 0.0)
    swaps.submit(make_job(1, OUT))
    assert swaps.stall_s == 0.75
    swaps.wait([job])
    swaps.wait_any(None)
    swaps.close()


def test_inline_copy_that_raises_is_reported(gated):
    gated.errors[0] = OSError("the link broke")
    swaps = InlineSwaps(*make_pools(), transfer=gated)
    future = swaps.submit(make_job(0, OUT))
    assert future.exception(0) is gated.errors[0]
    assert [(report.job.job_id, report.error) for report in swaps.landed()] == [(0, gated.errors[0])]


def test_coordinators_stall_is_the_time_in_wait(gated):
    clock = FakeClock()
    device, host = make_pools()
    link = EmulatedLink(call_us=500_000.0, gbps=1.0)
    with SwapCoordinator(device, host, transfer="per_run", link=link, clock=clock) as swaps:
        swaps.submit(make_job(0, OUT)).result(PATIENCE_S)
        assert swaps.stall_s == 0.0  # nobody waited
        assert [report.copy_s for report in swaps.landed()] == [0.5]


# What is refused


@pytest.mark.parametrize("swaps_class", [SwapCoordinator, InlineSwaps])
def test_pools_that_do_not_fit_are_refused(swaps_class):
    device, host = make_pools()
    wide = KVPool(KVLayout(2, 1, 4, 2, "float64"), 4)
    other_order = KVPool(KVLayout(2, 1, 2, 2, "float64", "layer_major"), 4)
    with pytest.raises(ValueError, match=r"^blocks must have the same head_dim: 2 on the device, 4 on the host$"):
        swaps_class(device, wide)
    orders = "^per_block copies between pools of one order, got block_major and layer_major"
    with pytest.raises(ValueError, match=f"{orders}: use zero_copy, staged or chosen$"):
        swaps_class(device, other_order, transfer="per_block")
    half = KVPool(KVLayout(4, 1, 2, 4, "float16"), 4)
    narrow = KVPool(KVLayout(2, 2, 1, 2, "float64"), 4)
    with pytest.raises(ValueError, match=r"^blocks must have the same dtype: float64 on the device, float16 on"):
        swaps_class(device, half)
    with pytest.raises(ValueError, match=r"^blocks must have the same num_kv_heads: 1 on the device, 2 on the host$"):
        swaps_class(device, narrow)
    with pytest.raises(ValueError, match=r"^device and host need a pool each, got the same one twice$"):
        swaps_class(device, device)
    known = "per_block, per_run, batched, zero_copy, staged, chosen"
    with pytest.raises(ValueError, match=f"^unknown transfer 'magic': known are {known}$"):
        swaps_class(device, host, transfer="magic")


# The emulated link


def test_emulated_link_costs_what_its_calls_cost():
    runs = np.array([[0, 4, 3], [9, 0, 1]], np.int64)
    link = EmulatedLink(call_us=10.0, gbps=2.0)
    # a block's piece takes 50 us at 2 GB/s: 4 blocks x 2 pieces a call each
    assert link.cost_s("per_block", runs, 2, 100_000) == pytest.approx(8 * 50e-6)
    assert link.cost_s("per_run", runs, 2, 100_000) == pytest.approx(2 * (150e-6 + 50e-6))
    # small pieces: the call is what costs, and a run is one call
    assert link.cost_s("per_block", runs, 2, 1_000) == pytest.approx(8 * 10e-6)
    assert link.cost_s("per_run", runs, 2, 1_000) == pytest.approx(4 * 10e-6)
    # 8 us a piece: three blocks together outweigh a call, one does not
    assert link.cost_s("per_block", runs, 1, 16_000) == pytest.approx(4 * 10e-6)
    assert link.cost_s("per_run", runs, 1, 16_000) == pytest.approx(24e-6 + 10e-6)


def test_emulated_link_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"^call_us must not be negative, got -1$"):
        EmulatedLink(-1, 1.0)
    with pytest.raises(ValueError, match=r"^gbps must be positive, got 0$"):
        EmulatedLink(1.0, 0)
    with pytest.raises(ValueError, match=r"^the emulated link does not know the cost of 'magic'$"):
        EmulatedLink(1.0, 1.0).cost_s("magic", np.array([[0, 0, 1]]), 1, 1)


def test_emulated_link_costs_of_the_ways_that_take_a_whole_job():
    runs = np.array([[0, 4, 3], [9, 0, 1]], np.int64)
    link = EmulatedLink(call_us=10.0, gbps=2.0)
    # 4 blocks x 2 pieces x 100 kB cross in 400 us, and a batch of 4 entries takes 12.4 us to prepare
    assert link.cost_s("batched", runs, 2, 100_000) == pytest.approx(400e-6)
    assert link.cost_s("batched", runs, 2, 100) == pytest.approx(12.4e-6)
    assert link.cost_s("zero_copy", runs, 2, 100_000) == pytest.approx(10e-6 + 500e-6)
    gather_s = 800_000 / (2e9 * 600 / 64)
    assert link.cost_s("staged", runs, 2, 100_000) == pytest.approx(10e-6 + gather_s + 400e-6)
    # two pieces of 32 MiB and the rest of a call's length
    runs = np.array([[0, 0, 2 * 32 * 1024 + 1]])
    gather_s = (2 * 2**25 + 1024) / (2e9 * 600 / 64)
    assert link.cost_s("staged", runs, 1, 1024) == pytest.approx(10e-6 + gather_s + 2 * 2**25 / 2e9 + 10e-6)
    assert link.cost_s("staged", np.empty((0, 3), np.int64), 1, 1024) == 0.0


@pytest.mark.parametrize("order", ["block_major", "layer_major"])
@pytest.mark.parametrize("way", [per_block, per_run])
def test_the_link_counts_the_calls_that_the_transfer_issues(order, way):
    layout = KVLayout(2, 1, 2, 2, "float64", order)
    pools = KVPool(layout, 8), KVPool(layout, 8)
    runs = np.array([[0, 4, 3], [6, 0, 1]], np.int64)
    count = way(pools[0].planes, pools[1].planes, runs)
    link = EmulatedLink(call_us=1e6, gbps=1.0)
    assert link.cost_s(way.__name__, runs, layout.pieces_per_block, layout.piece_bytes) == count.calls


def test_a_job_that_is_under_way_is_not_submitted_again(swaps, gated):
    gated.hold(0)
    job = make_job(0, OUT)
    future = swaps.submit(job)
    with pytest.raises(ValueError, match=r"^job 0 is under way: submit it once"):
        swaps.submit(job)
    gated.gates[0].set()
    future.result(PATIENCE_S)

"""Blocks that a swap-out still reads and a swap-in has already: who gives them, and what becomes of them at any end."""

import re

import numpy as np
import pytest

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError
from tests.memory.stamped_pools import BLOCK_SIZE, leave_nothing_clean
from tests.memory.test_manager import add, compute, evict

DEVICE, HOST = 12, 64


@pytest.fixture
def kv():
    """12 device blocks; "back" has 4 blocks of KV on the host and nothing on the device."""
    kv = KVCacheManager(BlockGroupAllocator(DEVICE), BlockGroupAllocator(HOST), BLOCK_SIZE, headroom=0)
    add(kv, "back", 4 * BLOCK_SIZE)
    evict(kv, "back")
    leave_nothing_clean(kv)
    assert (kv.num_free, kv.missing_blocks("back")) == (DEVICE, 4)
    return kv


def add_blocks(kv, request_id, num_blocks):
    add(kv, request_id, num_blocks * BLOCK_SIZE)


def leaving(kv, request_id, num_blocks):
    """A request of so many blocks that is on its way out."""
    add_blocks(kv, request_id, num_blocks)
    return kv.begin_swap_out(request_id)


def bring_back(kv, num_blocks=4, *, early=True):
    return kv.begin_swap_in("back", num_blocks * BLOCK_SIZE, early=early)


def refuses(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def still_read(kv, request_id):
    """How many of the request's device blocks a copy out still reads."""
    return int(kv.still_read(kv.block_table(request_id)).sum())


def state(kv):
    """All that a call that fails must leave as it was."""
    names = list(kv._roster.holders)
    copies = [(kv.device_copy(name), kv.host_copy(name), kv.is_resident(name), kv.jobs(name)) for name in names]
    return names, copies, kv.num_free, kv.num_clean, kv.num_vacating, kv.host.num_free


def check_all_free(kv, *names):
    for name in names:
        kv.release(name)
    kv.check_invariants()
    assert (kv.num_free, kv.host.num_free) == (DEVICE, HOST)
    assert not kv.still_read(np.arange(DEVICE, dtype=np.int32)).any()


# How many, and whose


def test_blocks_are_taken_exactly_as_far_as_free_and_clean_ones_are_short(kv):
    add_blocks(kv, "clean", 3)
    evict(kv, "clean")
    out = leaving(kv, "out", 4)
    add_blocks(kv, "stays", 4)
    last_two = kv.block_table("out")[2:].tolist()
    job = bring_back(kv, 6)  # 1 is free, 3 are clean
    kv.check_invariants()
    assert job.after == (out,)
    assert (kv.device_blocks("clean"), kv.device_blocks("out"), kv.device_blocks("back")) == (0, 2, 6)
    assert set(last_two) < set(kv.block_table("back").tolist())
    assert (kv.num_free, kv.num_vacating, still_read(kv, "back")) == (0, 2, 2)


def test_where_free_and_clean_blocks_are_enough_none_is_taken(kv):
    add_blocks(kv, "clean", 3)
    evict(kv, "clean")
    leaving(kv, "out", 4)
    add_blocks(kv, "stays", 4)
    job = bring_back(kv, 4)
    assert (job.after, kv.device_blocks("out"), still_read(kv, "back")) == ((), 4, 0)


@pytest.mark.parametrize(("order", "giver"), [(("back", "a", "b"), "b"), (("back", "b", "a"), "a"), (("a",), "b")])
def test_the_worst_ranked_victim_gives_first(kv, order, giver):
    jobs = {name: leaving(kv, name, 4) for name in "ab"}
    add_blocks(kv, "stays", 4)
    kv.prefer(order)
    job = bring_back(kv)
    assert job.after == (jobs[giver],)
    assert {name: kv.device_blocks(name) for name in "ab"} == {"a": 4, "b": 4} | {giver: 0}


def test_after_names_exactly_those_who_read_what_was_taken(kv):
    jobs = {name: leaving(kv, name, num_blocks) for name, num_blocks in (("a", 3), ("b", 3), ("c", 3))}
    add_blocks(kv, "stays", 3)
    kv.prefer(["stays", "a", "b", "c"])
    job = bring_back(kv, 5)
    assert set(job.after) == {jobs["b"], jobs["c"]}
    assert [kv.device_blocks(name) for name in "abc"] == [3, 1, 0]
    kv.check_invariants()


def test_still_read_says_which_blocks_before_the_copy_has_ended_and_none_afterwards(kv):
    out = leaving(kv, "out", 8)
    add_blocks(kv, "stays", 4)
    everything = np.arange(DEVICE, dtype=np.int32)
    taken = kv.block_table("out")[4:]
    assert not kv.still_read(everything).any()
    job = bring_back(kv)
    assert sorted(everything[kv.still_read(everything)].tolist()) == sorted(taken.tolist())
    assert kv.still_read(taken[:1]).tolist() == [True]
    kv.land(out)
    assert not kv.still_read(everything).any()
    kv.land(job)
    kv.check_invariants()


# Who gives nothing


def check_gives_nothing(kv):
    before = state(kv)
    with pytest.raises(OutOfBlocksError):
        bring_back(kv)
    assert state(kv) == before
    kv.check_invariants()


def test_a_shared_prefix_is_not_taken(kv):
    add_blocks(kv, "out", 4)
    kv.fork("out", "twin", 4 * BLOCK_SIZE)
    add_blocks(kv, "stays", 8)
    kv.begin_swap_out("twin")
    kv.begin_swap_out("out")
    check_gives_nothing(kv)


def test_what_one_alone_reads_behind_a_shared_prefix_is(kv):
    add_blocks(kv, "out", 4)
    kv.fork("out", "twin", 2 * BLOCK_SIZE)
    compute(kv, "twin", 6 * BLOCK_SIZE)
    add_blocks(kv, "stays", 4)
    kv.begin_swap_out("out")
    own = kv.begin_swap_out("twin")
    kv.prefer(["out", "twin"])
    job = bring_back(kv)
    assert (job.after, kv.device_blocks("out"), kv.device_blocks("twin")) == ((own,), 4, 2)
    kv.check_invariants()


def test_a_sealed_prefix_is_not_even_when_one_alone_reads_it_by_now(kv):
    add_blocks(kv, "out", 4)
    kv.fork("out", "twin", 2 * BLOCK_SIZE)
    kv.release("twin")
    add_blocks(kv, "stays", 8)
    assert kv.begin_swap_out("out").num_blocks == 4
    check_gives_nothing(kv)
    kv.release("stays")
    add_blocks(kv, "stays", 6)
    assert bring_back(kv).after == kv.jobs("out"), "2 are free, and 2 are its own alone"


def test_what_a_copy_that_hangs_reads_is_not_taken(kv):
    out = leaving(kv, "out", 8)
    add_blocks(kv, "stays", 4)
    kv.quarantine(out)
    check_gives_nothing(kv)


def test_what_a_write_back_reads_is_not_taken(kv):
    add_blocks(kv, "resident", 8)
    add_blocks(kv, "stays", 4)
    assert kv.begin_write_back("resident", 8).num_blocks == 8
    check_gives_nothing(kv)


def test_what_a_swap_in_writes_is_not_taken(kv):
    add_blocks(kv, "coming", 8)
    evict(kv, "coming")
    leave_nothing_clean(kv)
    kv.begin_swap_in("coming", 8 * BLOCK_SIZE)
    add_blocks(kv, "stays", 4)
    check_gives_nothing(kv)
    kv.release("coming")  # nobody wants it any more, but the copy goes on writing
    check_gives_nothing(kv)


def test_who_asks_for_room_behind_kv_that_it_need_not_copy_is_given_none(kv):
    """Its job would not come after the reader: it has none."""
    add_blocks(kv, "here", 4)
    evict(kv, "here")
    leaving(kv, "out", 4)
    add_blocks(kv, "stays", 4)
    before = state(kv)
    with refuses(OutOfBlocksError, "need 1 blocks, 0 of 12 are free and 0 can be reclaimed"):
        kv.begin_swap_in("here", 5 * BLOCK_SIZE, early=True)
    assert state(kv) == before


def test_without_early_nothing_is_taken_and_nothing_changes(kv):
    leaving(kv, "out", 8)
    add_blocks(kv, "stays", 4)
    before = state(kv)
    with refuses(OutOfBlocksError, "need 4 blocks, 0 of 12 are free and 0 can be reclaimed"):
        bring_back(kv, early=False)
    assert state(kv) == before
    kv.check_invariants()


def test_too_few_even_with_those_under_way_changes_nothing(kv):
    leaving(kv, "out", 3)
    add_blocks(kv, "clean", 1)
    evict(kv, "clean")
    add_blocks(kv, "stays", 7)
    before = state(kv)  # 1 is free
    with refuses(OutOfBlocksError, "need 6 blocks, 1 of 12 are free and 1 can be reclaimed"):
        bring_back(kv, 6)
    assert state(kv) == before
    kv.check_invariants()
    assert bring_back(kv, 5) is not None


# How they end


@pytest.fixture
def exchange(kv):
    """All 4 blocks of "back" are those that "out" leaves, which keeps 4 of its 8; whose jobs."""
    out = leaving(kv, "out", 8)
    add_blocks(kv, "stays", 4)
    job = bring_back(kv)
    assert job.after == (out,)
    assert still_read(kv, "back") == 4
    return out, job


def test_each_has_what_was_copied_for_it_when_both_have_landed_in_order(kv, exchange):
    out, job = exchange
    kv.land(out)
    assert (kv.host_valid_len("out"), kv.device_valid_len("out"), kv.num_clean) == (32, 16, 4)
    kv.land(job)
    assert (kv.device_valid_len("back"), kv.is_resident("back")) == (16, True)
    check_all_free(kv, "back", "out", "stays")


def test_the_later_job_cannot_land_before_the_earlier(kv, exchange):
    out, job = exchange
    before = state(kv)
    message = f"job {job.job_id} comes after job {out.job_id}, which is under way: land or abort that first"
    with refuses(ValueError, message):
        kv.land(job)
    assert state(kv) == before
    kv.check_invariants()


@pytest.mark.parametrize("end", [KVCacheManager.land, KVCacheManager.abort])
def test_the_later_one_aborted_first_keeps_its_blocks_quarantined_until_the_earlier_has_ended(kv, exchange, end):
    out, job = exchange
    kv.abort(job)
    kv.check_invariants()
    assert kv.count_blocks(kv.device)["quarantined"] == 4
    assert (kv.num_free, kv.device_valid_len("back"), kv.host_valid_len("back")) == (0, 0, 0)
    assert kv.is_resident("back")
    with pytest.raises(OutOfBlocksError):
        kv.grow("back", BLOCK_SIZE)
    end(kv, out)
    kv.check_invariants()
    assert kv.count_blocks(kv.device)["quarantined"] == 0
    assert kv.num_free == 4
    with refuses(ValueError, f"job {job.job_id} is not under way: it was landed or aborted before"):
        kv.land(job)
    check_all_free(kv, "back", "out", "stays")


def test_when_the_earlier_is_aborted_its_request_has_only_what_the_host_had_and_what_was_not_taken(kv):
    add_blocks(kv, "out", 2)
    evict(kv, "out")
    assert kv.begin_swap_in("out", 0) is None
    compute(kv, "out", 8 * BLOCK_SIZE)
    out = kv.begin_swap_out("out")
    add_blocks(kv, "stays", 4)
    job = bring_back(kv, 7)
    kv.abort(out)
    kv.check_invariants()
    # the host had 2 blocks; 1 of its 8 was not handed over
    assert (kv.host_valid_len("out"), kv.device_valid_len("out"), kv.is_resident("out")) == (8, 4, False)
    assert not kv.still_read(kv.block_table("back")).any()
    kv.land(job)
    assert kv.device_valid_len("back") == 16
    kv.release("stays")
    again = kv.begin_swap_in("out", 2 * BLOCK_SIZE)
    assert [(entry.start_token, entry.end_token) for entry in again.ranges] == [(4, 8)]
    kv.land(again)
    check_all_free(kv, "back", "out")


def test_who_had_nothing_on_the_host_has_nothing_when_its_copy_is_aborted_and_all_was_taken(kv):
    out = leaving(kv, "out", 4)
    add_blocks(kv, "stays", 8)
    job = bring_back(kv)
    kv.abort(out)
    kv.check_invariants()
    assert (kv.device_blocks("out"), kv.host_blocks("out")) == (0, 0)
    assert (kv.device_valid_len("out"), kv.host_valid_len("out")) == (0, 0)
    kv.land(job)
    kv.drop("out")
    check_all_free(kv, "back", "out", "stays")


@pytest.mark.parametrize("released", ["back", "out"])
@pytest.mark.parametrize("first", [KVCacheManager.land, KVCacheManager.abort])
@pytest.mark.parametrize("second", [KVCacheManager.land, KVCacheManager.abort])
def test_a_release_in_the_middle_leaks_nothing(kv, exchange, released, first, second):
    out, job = exchange
    kv.release(released)
    kv.check_invariants()
    assert kv.num_free == 0
    assert kv.still_read(np.arange(DEVICE, dtype=np.int32)).sum() == 4
    first(kv, out)
    kv.check_invariants()
    second(kv, job)
    check_all_free(kv, "stays", *{"back", "out"} - {released})


@pytest.mark.parametrize("released", ["back", "out"])
def test_a_release_before_the_later_one_is_aborted_out_of_order_leaks_nothing(kv, exchange, released):
    out, job = exchange
    kv.release(released)
    kv.abort(job)
    kv.check_invariants()
    assert kv.num_free == 0
    kv.land(out)
    check_all_free(kv, "stays", *{"back", "out"} - {released})

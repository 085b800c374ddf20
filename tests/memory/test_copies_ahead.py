"""Copies that are begun before anybody needs them: the request goes on as it is, and nobody else pays for them."""

import re

import pytest

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, SwapDirection
from tests.memory.stamped_pools import (
    BLOCK_SIZE,
    Copy,
    PoisoningAllocator,
    Tokens,
    leave_nothing_clean,
    stamps_of,
)

LAND, ABORT = KVCacheManager.land, KVCacheManager.abort
DEVICE, HOST = 12, 16


class Stamped:
    """A manager over pools of stamps, and the tokens of each request."""

    def __init__(self, device=DEVICE, host=HOST, **options):
        self.device = PoisoningAllocator(BlockGroupAllocator(device))
        self.host = PoisoningAllocator(BlockGroupAllocator(host))
        self.kv = KVCacheManager(self.device, self.host, BLOCK_SIZE, **({"headroom": 0} | options))
        self.device.still_read = self.kv.still_read
        self.tokens = {}

    def compute(self, request_id, num_blocks, *, and_tokens=0):
        """The request has KV of so many whole blocks, and some tokens behind them."""
        num_tokens = num_blocks * BLOCK_SIZE + and_tokens
        if request_id not in self.tokens:
            self.kv.add(request_id)
            self.tokens[request_id] = Tokens()
        self.kv.grow(request_id, num_tokens)
        start = self.kv.device_valid_len(request_id)
        self.tokens[request_id].write(self.device, self.kv.block_table(request_id), start, num_tokens)
        self.kv.commit(request_id, num_tokens)

    def evict(self, request_id):
        self.finish(self.kv.begin_swap_out(request_id))

    def outside(self, request_id, num_blocks):
        """A request that is on the host alone."""
        self.compute(request_id, num_blocks)
        self.evict(request_id)
        leave_nothing_clean(self.kv)

    def finish(self, job, num_blocks=None):
        """The job's bytes are moved, and it lands."""
        Copy(job, self.device, self.host).move(num_blocks)
        self.kv.land(job)
        self.check()

    def check(self):
        """What is said to be right is, on either tier, bit for bit."""
        self.kv.check_invariants()
        for request_id, tokens in self.tokens.items():
            for allocator, (copy,) in (
                (self.device, self.kv.device_copy(request_id)),
                (self.host, self.kv.host_copy(request_id)),
            ):
                assert stamps_of(allocator, copy) == tokens.stamps[: copy.valid_len]

    def check_all_free(self, *request_ids):
        for request_id in request_ids:
            self.kv.release(request_id)
        self.kv.check_invariants()
        assert (self.kv.num_free, self.kv.host.num_free) == (self.device.num_blocks, self.host.num_blocks)

    def held(self):
        """Who holds what, and what of it is right."""
        names = list(self.tokens)
        copies = [(self.kv.device_copy(name), self.kv.host_copy(name), self.kv.is_resident(name)) for name in names]
        return copies, self.kv.num_free, self.kv.num_clean, self.kv.host.num_free


@pytest.fixture
def all_of():
    return Stamped()


def refuses(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def tokens_of(job):
    return [(entry.start_token, entry.end_token) for entry in job.ranges]


# Write-back


def test_a_write_back_copies_the_first_blocks_that_the_host_lacks_and_no_more_than_it_may(all_of):
    kv = all_of.kv
    all_of.compute("a", 4, and_tokens=1)
    job = kv.begin_write_back("a", 3)
    assert (job.direction, job.ahead, job.after) == (SwapDirection.SWAP_OUT, True, ())
    assert (tokens_of(job), job.num_blocks) == ([(0, 12)], 3)
    assert kv.is_resident("a")
    all_of.finish(job)
    assert (kv.host_valid_len("a"), kv.host_blocks("a"), kv.dirty_blocks("a")) == (12, 3, 2)
    job = kv.begin_write_back("a", 9)
    assert (tokens_of(job), job.num_blocks) == ([(12, 17)], 2)
    all_of.finish(job)
    assert (kv.host_valid_len("a"), kv.dirty_blocks("a")) == (17, 0)
    assert kv.begin_write_back("a", 9) is None


@pytest.mark.parametrize("max_blocks", [0, -1])
def test_no_blocks_are_no_job(all_of, max_blocks):
    all_of.compute("a", 2)
    all_of.outside("b", 2)
    before = all_of.held()
    assert all_of.kv.begin_write_back("a", max_blocks) is None
    assert all_of.kv.begin_prefetch("b", max_blocks) is None
    assert all_of.held() == before


def test_a_request_goes_on_growing_during_its_write_back_and_its_eviction_copies_only_the_rest(all_of):
    kv = all_of.kv
    all_of.compute("a", 2, and_tokens=3)
    job = kv.begin_write_back("a", 9)
    copy = Copy(job, all_of.device, all_of.host)
    copy.move(1)
    all_of.compute("a", 5)
    copy.move(None)
    kv.land(job)
    all_of.check()
    # the third block was copied with 3 tokens of 4, whatever its last slot held
    assert (kv.host_valid_len("a"), kv.device_valid_len("a"), kv.dirty_blocks("a")) == (11, 20, 3)
    rest = kv.begin_swap_out("a")
    assert (tokens_of(rest), rest.num_blocks) == ([(11, 20)], 3)
    all_of.finish(rest)
    leave_nothing_clean(kv)
    all_of.finish(kv.begin_swap_in("a", 20))
    assert stamps_of(all_of.device, *kv.device_copy("a")) == all_of.tokens["a"].stamps


def test_after_a_whole_write_back_an_eviction_copies_nothing_and_its_blocks_are_clean_at_once(all_of):
    kv = all_of.kv
    all_of.compute("a", 4)
    all_of.finish(kv.begin_write_back("a", 4))
    assert (kv.num_clean, kv.num_vacating) == (0, 0)
    assert kv.begin_swap_out("a") is None
    assert (kv.num_clean, kv.num_vacating) == (4, 0)


def test_a_write_back_takes_only_host_blocks_that_nobody_holds():
    all_of = Stamped(device=DEVICE, host=6)
    kv = all_of.kv
    all_of.compute("idle", 4)
    all_of.evict("idle")
    kv.finish_turn("idle")
    all_of.compute("a", 4)
    assert kv.num_host_free == 6, "an eviction could have the idle one's, a write-back cannot"
    job = kv.begin_write_back("a", 4)
    assert (job.num_blocks, kv.host_valid_len("idle")) == (2, 16)
    all_of.finish(job)
    assert kv.begin_write_back("a", 4) is None
    assert (kv.host_valid_len("idle"), kv.host_valid_len("a")) == (16, 8)


def test_a_write_back_that_is_aborted_leaves_everything_as_it_was(all_of):
    kv = all_of.kv
    all_of.compute("a", 2)
    all_of.finish(kv.begin_write_back("a", 1))
    before = all_of.held()
    job = kv.begin_write_back("a", 4)
    Copy(job, all_of.device, all_of.host).move(1)
    kv.abort(job)
    all_of.check()
    assert all_of.held() == before
    assert kv.begin_write_back("a", 4).num_blocks == 1


# Prefetch


def test_a_prefetch_copies_the_first_blocks_that_the_device_lacks_and_the_request_stays_evicted(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    job = kv.begin_prefetch("a", 3)
    assert (job.direction, job.ahead, job.after) == (SwapDirection.SWAP_IN, True, ())
    assert (tokens_of(job), job.num_blocks, kv.device_blocks("a")) == ([(0, 12)], 3, 3)
    all_of.finish(job)
    assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.missing_blocks("a")) == (False, 12, 1)
    rest = kv.begin_swap_in("a", 17)
    assert tokens_of(rest) == [(12, 16)]
    all_of.finish(rest)
    assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.device_blocks("a")) == (True, 16, 5)


def test_a_landed_prefetch_is_clean_and_given_back_when_somebody_needs_the_room(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    job = kv.begin_prefetch("a", 4)
    assert (kv.num_free, kv.num_clean) == (8, 0)
    all_of.finish(job)
    assert (kv.num_free, kv.num_clean) == (8, 4)
    all_of.compute("b", 12)
    all_of.check()
    assert (kv.device_blocks("a"), kv.host_valid_len("a"), kv.missing_blocks("a")) == (0, 16, 4)


def test_after_a_whole_prefetch_a_return_copies_nothing(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    all_of.finish(kv.begin_prefetch("a", 4))
    assert kv.begin_prefetch("a", 4) is None
    assert kv.begin_swap_in("a", 17) is None
    all_of.check()
    assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.num_clean) == (True, 16, 0)
    all_of.compute("a", 5)
    all_of.evict("a")
    assert kv.host_valid_len("a") == 20


def test_a_prefetch_takes_only_device_blocks_that_nobody_holds(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    all_of.compute("clean", 3)
    all_of.evict("clean")
    all_of.compute("out", 3)
    leaving = kv.begin_swap_out("out")
    all_of.compute("stays", 4)
    job = kv.begin_prefetch("a", 4)
    assert (job.num_blocks, job.after, kv.num_free) == (2, (), 0)
    assert (kv.device_blocks("clean"), kv.device_blocks("out")) == (3, 3)
    all_of.finish(job)
    assert kv.begin_prefetch("a", 4) is None
    all_of.finish(leaving)
    all_of.check_all_free("a", "clean", "out", "stays")


def test_a_prefetch_that_is_aborted_leaves_everything_as_it_was(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    all_of.finish(kv.begin_prefetch("a", 1))
    before = all_of.held()
    job = kv.begin_prefetch("a", 9)
    Copy(job, all_of.device, all_of.host).move(2)
    kv.abort(job)
    all_of.check()
    assert all_of.held() == before
    assert kv.begin_prefetch("a", 9).num_blocks == 3


def test_without_reuse_the_host_keeps_what_was_copied_ahead_until_the_request_is_back():
    all_of = Stamped(reuse=False)
    kv = all_of.kv
    all_of.outside("a", 4)
    all_of.finish(kv.begin_prefetch("a", 4))
    assert (kv.host_valid_len("a"), kv.device_valid_len("a")) == (16, 16)
    assert kv.begin_swap_in("a", 16) is None
    assert (kv.host_blocks("a"), kv.device_valid_len("a")) == (0, 16)
    all_of.check()


# While one is under way


def test_who_is_written_back_can_neither_be_evicted_nor_rolled_back(all_of):
    kv = all_of.kv
    all_of.compute("a", 2)
    job = kv.begin_write_back("a", 1)
    before = all_of.held()
    for act in (kv.begin_swap_out, lambda name: kv.rollback(name, 1), lambda name: kv.rollback(name, 8)):
        with refuses(f"request 'a' is copied ahead by job {job.job_id}: go on when that has ended"):
            act("a")
    assert all_of.held() == before
    assert kv.begin_write_back("a", 9) is None, "another job brings it"
    all_of.finish(job)
    kv.rollback("a", 5)
    all_of.tokens["a"].cut(5)
    all_of.check()
    assert (kv.host_valid_len("a"), kv.device_valid_len("a")) == (4, 5)


def test_who_is_prefetched_can_neither_be_brought_back_nor_rolled_back(all_of):
    kv = all_of.kv
    all_of.outside("a", 2)
    job = kv.begin_prefetch("a", 1)
    before = all_of.held()
    for act in (
        lambda name: kv.begin_swap_in(name, 8),
        lambda name: kv.begin_swap_in(name, 8, early=True),
        lambda name: kv.rollback(name, 1),
    ):
        with refuses(f"request 'a' is copied ahead by job {job.job_id}: go on when that has ended"):
            act("a")
    assert all_of.held() == before
    assert kv.begin_prefetch("a", 9) is None, "another job brings it"
    all_of.finish(job)
    all_of.finish(kv.begin_swap_in("a", 8))


def test_only_a_resident_is_written_back_and_only_an_evicted_one_prefetched(all_of):
    kv = all_of.kv
    all_of.compute("a", 2)
    with refuses("request 'a' is resident"):
        kv.begin_prefetch("a", 2)
    job = kv.begin_swap_out("a")
    for act in (kv.begin_write_back, kv.begin_prefetch):
        with refuses(f"request 'a' has job {job.job_id} under way: land or abort it first"):
            act("a", 2)
    all_of.finish(job)
    with refuses("request 'a' is evicted"):
        kv.begin_write_back("a", 2)


AHEAD = ("write_back", "prefetch")


def under_way(all_of, ahead):
    """A request "a" of 4 blocks of which 3 are being copied ahead."""
    if ahead == "write_back":
        all_of.compute("a", 4)
        return all_of.kv.begin_write_back("a", 3)
    all_of.outside("a", 4)
    return all_of.kv.begin_prefetch("a", 3)


@pytest.mark.parametrize("end", [LAND, ABORT])
@pytest.mark.parametrize("ahead", AHEAD)
def test_a_drop_during_one_leaves_the_request_nothing_and_its_blocks_until_the_copy_has_ended(all_of, ahead, end):
    kv = all_of.kv
    job = under_way(all_of, ahead)
    held = kv.num_free, kv.host.num_free
    kv.drop("a")
    kv.check_invariants()
    assert (kv.is_resident("a"), kv.device_blocks("a"), kv.host_blocks("a")) == (True, 0, 0)
    assert (kv.num_free, kv.host.num_free) == held
    all_of.compute("a", 2)
    end(kv, job)
    all_of.check()
    assert (kv.num_free, kv.host.num_free, kv.device_valid_len("a")) == (DEVICE - 2, HOST, 8)
    all_of.check_all_free("a")


@pytest.mark.parametrize("end", [LAND, ABORT])
@pytest.mark.parametrize("ahead", AHEAD)
def test_a_release_during_one_frees_its_blocks_when_the_copy_has_ended(all_of, ahead, end):
    kv = all_of.kv
    job = under_way(all_of, ahead)
    held = kv.num_free, kv.host.num_free
    kv.release("a")
    kv.check_invariants()
    assert (kv.num_free, kv.host.num_free) == held
    end(kv, job)
    all_of.check_all_free()


@pytest.mark.parametrize("end", [LAND, ABORT])
@pytest.mark.parametrize("ahead", AHEAD)
def test_whose_copy_ahead_hangs_has_nothing_and_its_blocks_come_back_when_it_ends_after_all(all_of, ahead, end):
    kv = all_of.kv
    job = under_way(all_of, ahead)
    kv.quarantine(job)
    kv.check_invariants()
    assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.host_valid_len("a")) == (True, 0, 0)
    quarantined = [kv.count_blocks(tier)["quarantined"] for tier in (kv.device, kv.host)]
    assert quarantined == ([4, 3] if ahead == "write_back" else [3, 4])
    all_of.compute("a", 2)
    end(kv, job)
    all_of.check()
    assert (kv.num_free, kv.host.num_free) == (DEVICE - 2, HOST)
    all_of.check_all_free("a")


def test_nobody_is_given_what_a_prefetch_writes_nor_what_a_write_back_reads(all_of):
    kv = all_of.kv
    all_of.outside("a", 4)
    all_of.compute("b", 4)
    jobs = kv.begin_prefetch("a", 4), kv.begin_write_back("b", 4)
    all_of.compute("c", 4)
    kv.add("d")
    with pytest.raises(OutOfBlocksError, match=r"^need 1 blocks, 0 of 12 are free and 0 can be reclaimed$"):
        kv.grow("d", 1)
    for job in jobs:
        all_of.finish(job)


def test_a_shared_prefix_that_another_copies_already_is_left_out(all_of):
    kv = all_of.kv
    all_of.compute("a", 4)
    kv.fork("a", "twin", 4 * BLOCK_SIZE)
    job = kv.begin_write_back("a", 9)
    assert job.num_blocks == 4
    assert kv.begin_write_back("twin", 9) is None
    kv.land(job)
    kv.check_invariants()
    assert kv.begin_write_back("twin", 9) is None, "the host has it"
    assert kv.host_valid_len("twin") == 16


@pytest.mark.parametrize(("max_blocks", "num_tokens"), [(1, [4]), (2, [8]), (3, [8, 4]), (9, [8, 8])])
def test_how_many_blocks_is_said_of_all_segments_together(all_of, max_blocks, num_tokens):
    kv = all_of.kv
    all_of.compute("a", 4)
    kv.fork("a", "twin", 2 * BLOCK_SIZE)
    kv.release("twin")
    del all_of.tokens["a"]  # it has two segments now
    job = kv.begin_write_back("a", max_blocks)
    assert tokens_of(job) == [(0, num) for num in num_tokens]
    all_of.finish(job)
    assert kv.host_valid_len("a") == sum(num_tokens)


# What may be spent on it


@pytest.mark.parametrize(("used", "idle"), [(0, 9), (5, 4), (9, 0), (11, 0)])
def test_idle_are_the_free_blocks_beyond_those_that_are_kept_free_on_either_tier(used, idle):
    all_of = Stamped(device=12, host=16, headroom=0.25)  # a quarter of the smaller pool: 3
    kv = all_of.kv
    if used:
        all_of.compute("a", used)
    assert kv.num_idle == idle
    assert kv.num_host_idle == 13
    if used:
        all_of.finish(kv.begin_write_back("a", used))
    assert (kv.num_idle, kv.num_host_idle) == (idle, max(0, 13 - used))


def test_what_is_clean_is_not_idle():
    all_of = Stamped(headroom=0.25)
    all_of.compute("a", 5)
    all_of.evict("a")
    assert (all_of.kv.num_clean, all_of.kv.num_idle) == (5, 4)


def test_without_reuse_a_write_back_is_kept_for_the_eviction_that_it_was_made_for():
    kv = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(16), block_size=2, reuse=False)
    kv.add("a")
    kv.grow("a", 8)
    kv.commit("a", 8)
    kv.land(kv.begin_write_back("a", 4))
    assert kv.dirty_blocks("a") == 0
    assert kv.begin_swap_out("a") is None
    assert kv.begin_swap_in("a", 8) is None
    assert kv.host_valid_len("a") == 0  # it is back, so the host's copy goes as it always does without reuse

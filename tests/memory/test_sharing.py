"""Forks: what several requests read is stored once, swapped once, and freed with the last of them."""

import re

import pytest

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, PagedAllocator, SwapDirection
from tests.memory.stamped_pools import BLOCK_SIZE, leave_nothing_clean


def manager(device=12, host=16, *, reuse=True, min_tail=64):
    allocators = BlockGroupAllocator(device), BlockGroupAllocator(host)
    return KVCacheManager(*allocators, BLOCK_SIZE, reuse=reuse, min_tail=min_tail)


def add(kv, request_id, num_tokens):
    kv.add(request_id)
    compute(kv, request_id, num_tokens)


def compute(kv, request_id, num_tokens):
    kv.grow(request_id, num_tokens)
    kv.commit(request_id, num_tokens)


def land(kv, job):
    kv.land(job)
    kv.check_invariants()


def evict(kv, request_id):
    job = kv.begin_swap_out(request_id)
    if job is not None:
        land(kv, job)
    return 0 if job is None else job.num_blocks


def family(**options):
    """Requests a and b read the same 8 tokens; a has 6 of its own behind them, b has 3."""
    kv = manager(**options)
    add(kv, "a", 14)
    assert kv.fork("a", "b", 10) == 8
    compute(kv, "b", 11)
    return kv


class TestFork:
    def test_stores_nothing_and_shares_whole_blocks(self):
        kv = manager()
        add(kv, "a", 14)
        table = kv.block_table("a").tolist()
        assert kv.fork("a", "b", 10) == 8
        assert kv.num_free == 8
        assert kv.block_table("a").tolist() == table
        assert kv.block_table("b").tolist() == table[:2]
        assert [kv.device_valid_len(r) for r in "ab"] == [14, 8]
        compute(kv, "b", 11)
        assert kv.block_table("b").tolist()[:2] == table[:2]
        assert kv.num_free == 7
        kv.check_invariants()

    def test_of_less_than_a_block_shares_nothing(self):
        kv = manager()
        add(kv, "a", 14)
        assert kv.fork("a", "b", 3) == 0
        assert kv.segment_ids("a") == (("a", 0),)
        assert kv.device_valid_len("b") == 0

    def test_of_everything_leaves_the_parent_room_of_its_own(self):
        kv = manager()
        add(kv, "a", 8)
        kv.grow("a", 20)
        assert kv.fork("a", "b", 8) == 8
        assert (kv.device_blocks("a"), kv.device_blocks("b")) == (5, 2)
        compute(kv, "a", 9)
        compute(kv, "b", 9)
        assert len({*kv.block_table("a").tolist(), *kv.block_table("b").tolist()}) == 6

    def test_of_a_fork_and_of_its_prefix(self):
        kv = family()
        assert kv.fork("b", "c", 5) == 4
        assert kv.fork("a", "d", 14) == 12
        lens = {r: [copy.valid_len for copy in kv.device_copy(r)] for r in "abcd"}
        assert lens == {"a": [4, 4, 4, 2], "b": [4, 4, 3], "c": [4, 0], "d": [4, 4, 4, 0]}
        kv.check_invariants()

    def test_of_an_evicted_request_is_evicted_on_both_tiers(self):
        kv = manager()
        add(kv, "a", 14)
        evict(kv, "a")
        kv.fork("a", "b", 14)
        assert not kv.is_resident("b")
        assert (kv.device_valid_len("b"), kv.host_valid_len("b"), kv.num_clean, kv.host.num_free) == (12, 12, 4, 12)
        leave_nothing_clean(kv)
        job = kv.begin_swap_in("b", 13)
        assert job.num_blocks == 3
        land(kv, job)
        assert kv.device_valid_len("b") == 12
        assert kv.begin_swap_in("a", 14).num_blocks == 1

    @pytest.mark.parametrize("num_samples", [2, 5])
    def test_many_samples_of_one_prompt(self, num_samples):
        kv = manager(device=40)
        add(kv, "prompt", 32)
        for sample in range(num_samples):
            kv.fork("prompt", sample, 32)
            compute(kv, sample, 33)
        assert kv.num_free == 40 - 8 - num_samples
        kv.release("prompt")
        for sample in range(num_samples):
            assert kv.device_valid_len(sample) == 33
            kv.release(sample)
        assert kv.num_free == 40

    @pytest.mark.parametrize("at_token", [-1, 15])
    def test_beyond_what_there_is(self, at_token):
        kv = manager()
        add(kv, "a", 14)
        message = f"at_token must be in [0, 14], the KV that 'a' has, got {at_token}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            kv.fork("a", "b", at_token)
        with pytest.raises(KeyError, match="request 'b' is unknown"):
            kv.device_blocks("b")

    def test_into_a_known_request_or_of_a_moving_one(self):
        kv = family()
        with pytest.raises(ValueError, match="^request 'b' is known already$"):
            kv.fork("a", "b", 4)
        assert len(kv.segment_ids("a")) == 2, "nothing was cut"
        kv.begin_swap_out("a")
        with pytest.raises(ValueError, match="^request 'a' has job 0 under way: land or abort it first$"):
            kv.fork("a", "c", 4)
        with pytest.raises(ValueError, match="^request 'a' has job 0 under way: land or abort it first$"):
            kv.fork("b", "c", 4)  # it would cut what a's copy reads
        assert kv.fork("b", "c", 8) == 8


class TestSwitching:
    def test_a_prefix_is_swapped_once_and_stays_while_a_reader_runs(self):
        kv = family()
        assert evict(kv, "a") == 4
        assert (kv.num_clean, kv.device_valid_len("b")) == (2, 11)
        leave_nothing_clean(kv)
        assert (kv.device_valid_len("b"), kv.device_valid_len("a")) == (11, 8)
        compute(kv, "b", 12)
        assert evict(kv, "b") == 1
        assert (kv.num_clean, kv.host.num_free) == (3, 11)

    def test_a_prefix_comes_back_once(self):
        kv = family()
        evict(kv, "a"), evict(kv, "b")
        leave_nothing_clean(kv)
        job = kv.begin_swap_in("a", 14)
        assert job.num_blocks == 4
        message = "request 'b' shares KV that job 2 brings in: wait for it first"
        with pytest.raises(ValueError, match=f"^{message}$"):
            kv.begin_swap_in("b", 11)
        assert kv.jobs("b") == (job,)
        land(kv, job)
        assert kv.jobs("b") == ()
        assert kv.begin_swap_in("b", 11).num_blocks == 1

    def test_two_leave_at_once_and_one_comes_back_before_its_prefix_has_landed(self):
        kv = family()
        first, second = kv.begin_swap_out("a"), kv.begin_swap_out("b")
        assert (first.num_blocks, second.num_blocks, kv.num_vacating) == (4, 1, 5)
        land(kv, second)
        assert (kv.num_vacating, kv.num_clean) == (4, 1)
        assert kv.begin_swap_in("b", 11) is None
        assert (kv.is_resident("b"), kv.num_vacating) == (True, 2)
        compute(kv, "b", 12)
        land(kv, first)
        assert (kv.device_valid_len("b"), kv.host_valid_len("b"), kv.num_clean) == (12, 11, 2)

    def test_without_reuse_the_hosts_copy_stays_for_those_who_are_evicted(self):
        kv = family(reuse=False)
        evict(kv, "a"), evict(kv, "b")
        kv.begin_swap_in("a", 14)
        assert (kv.host_valid_len("a"), kv.host_valid_len("b")) == (8, 11)
        kv.begin_swap_in("b", 11)
        assert kv.host.num_free == 16

    def test_a_prefix_with_an_evicted_reader_is_not_redundant_on_the_host(self):
        kv = family(host=5)
        evict(kv, "a")
        add(kv, "c", 4 * BLOCK_SIZE)
        with pytest.raises(OutOfBlocksError, match="^need 4 blocks, 1 of 5 are free and 0 can be reclaimed$"):
            kv.begin_swap_out("c")
        kv.begin_swap_in("a", 14)
        assert evict(kv, "c") == 4


class TestEnds:
    def test_a_prefix_is_freed_with_its_last_reader(self):
        kv = family()
        kv.release("a")
        assert (kv.num_free, kv.device_valid_len("b")) == (9, 11)
        kv.release("b")
        assert kv.num_free == 12

    @pytest.mark.parametrize("end", [KVCacheManager.land, KVCacheManager.abort])
    def test_the_one_who_began_a_copy_leaves_in_the_middle_of_it(self, end):
        kv = family()
        job = kv.begin_swap_out("a")
        kv.release("a")
        end(kv, job)
        kv.check_invariants()
        assert (kv.device_valid_len("b"), kv.num_free) == (11, 9)
        assert kv.host_valid_len("b") == (8 if end is KVCacheManager.land else 0)

    def test_an_evicted_reader_of_a_copy_that_failed_loses_its_prefix_with_the_one_who_began_it(self):
        """Nobody runs who wants it on the device, nothing has it on the host: it would never be given back."""
        kv = family()
        job = kv.begin_swap_out("a")
        evict(kv, "b")
        kv.release("a")
        kv.abort(job)
        kv.check_invariants()
        assert (kv.device_valid_len("b"), kv.host_valid_len("b"), kv.num_free) == (0, 0, 12)

    def test_and_whatever_lies_between_goes_with_it(self):
        kv = manager()
        add(kv, "a", 12)
        kv.fork("a", "b", 8)
        kv.fork("a", "c", 4)
        kv.release("c")
        job = kv.begin_swap_out("a")
        kv.begin_swap_out("b")
        kv.release("a")
        kv.abort(job)
        kv.check_invariants()
        assert (kv.device_valid_len("b"), kv.num_free, kv.host.num_free) == (0, 12, 16)

    def test_so_it_does_when_a_failed_victim_is_dropped(self):
        kv = family()
        job = kv.begin_swap_out("a")
        evict(kv, "b")
        kv.abort(job)
        assert (kv.device_valid_len("b"), kv.num_free) == (11, 7)
        kv.drop("a")
        assert (kv.device_valid_len("b"), kv.num_free, kv.is_resident("a")) == (0, 12, True)
        kv.begin_swap_in("b", 11)
        compute(kv, "b", 11)

    def test_a_running_reader_keeps_the_prefix_of_one_that_is_dropped(self):
        kv = family()
        kv.drop("a")
        assert (kv.device_valid_len("a"), kv.device_valid_len("b"), kv.num_free) == (0, 11, 9)

    def test_an_idle_family_that_loses_its_prefix_loses_what_lies_behind_it(self):
        kv = family(host=5)
        evict(kv, "a"), evict(kv, "b")
        kv.finish_turn("a"), kv.finish_turn("b")
        add(kv, "c", BLOCK_SIZE)
        kv.prefer(["c"])
        evict(kv, "c")
        assert [kv.host_valid_len(r) for r in "ab"] == [8, 11], "the prefix goes last"
        kv.begin_swap_in("c", 4 * BLOCK_SIZE)
        compute(kv, "c", 4 * BLOCK_SIZE)
        evict(kv, "c")
        assert [kv.host_valid_len(r) for r in "ab"] == [0, 0]
        assert kv.num_free == 8, "and nothing of it stays behind on either tier"
        assert kv.host.num_free == 1

    def test_one_reader_that_is_not_idle_keeps_it(self):
        kv = family(host=5)
        evict(kv, "a"), evict(kv, "b")
        kv.finish_turn("a")
        add(kv, "c", BLOCK_SIZE)
        evict(kv, "c")
        assert [kv.host_valid_len(r) for r in "ab"] == [8, 11]

    def test_rollback_into_the_prefix_keeps_whole_blocks_and_the_others_prefix(self):
        kv = family()
        kv.rollback("a", 9)
        assert (kv.device_valid_len("a"), kv.num_free) == (9, 8)
        kv.rollback("a", 7)
        assert (kv.device_valid_len("a"), kv.device_valid_len("b"), kv.num_free) == (4, 11, 9)
        compute(kv, "a", 9)
        assert kv.block_table("a").tolist()[0] == kv.block_table("b").tolist()[0]
        assert not {*kv.block_table("a").tolist()[1:]} & {*kv.block_table("b").tolist()}
        kv.check_invariants()


class TestTails:
    def full(self, min_tail):
        """a and b read 4 blocks and have 4 more each; the host is full of them; c wants out."""
        kv = manager(device=20, host=12, min_tail=min_tail)
        add(kv, "a", 32)
        kv.fork("a", "b", 16)
        compute(kv, "b", 32)
        evict(kv, "a"), evict(kv, "b")
        add(kv, "c", 8)
        return kv

    def test_only_what_lies_behind_a_prefix_is_cut_lowest_rank_first(self):
        kv = self.full(min_tail=3)
        kv.prefer(["c", "a", "b"])
        assert kv.num_host_free == 8
        evict(kv, "c")
        assert [kv.host_valid_len(r) for r in "abc"] == [32, 20, 8]
        assert [kv.device_valid_len(r) for r in "abc"] == [32, 20, 8], "what the host does not back would never be free"
        assert kv.host.num_free == 1

    def test_nothing_that_ranks_above_is_cut(self):
        kv = self.full(min_tail=3)
        kv.prefer(["a", "b", "c"])
        with pytest.raises(OutOfBlocksError, match="need 2 blocks, 0 of 12 are free and 0 can be reclaimed"):
            kv.begin_swap_out("c")

    def test_a_shared_prefix_does_not_lend_its_reader_a_better_rank(self):
        kv = manager(device=20, host=8, min_tail=3)
        add(kv, "a", 16)
        evict(kv, "a")
        add(kv, "d", 16)
        evict(kv, "d")
        kv.begin_swap_in("d", 16)
        kv.fork("d", "c", 16)
        compute(kv, "c", 20)
        kv.prefer(["d", "a", "c"])
        with pytest.raises(OutOfBlocksError, match="need 1 blocks, 0 of 8 are free and 0 can be reclaimed"):
            kv.begin_swap_out("c")

    def test_short_ones_are_left_alone(self):
        kv = self.full(min_tail=5)
        kv.prefer(["c", "a", "b"])
        assert kv.num_host_free == 0


class TestQuarantine:
    def test_its_request_goes_on_and_its_blocks_stay_until_the_copy_has_ended(self):
        kv = manager()
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        kv.quarantine(job)
        kv.check_invariants()
        assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.num_free, kv.num_vacating) == (True, 0, 9, 0)
        compute(kv, "a", 10)
        again = kv.begin_swap_out("a")
        kv.land(job)
        assert (kv.num_free, kv.is_resident("a"), kv.jobs("a")) == (9, False, (again,))
        land(kv, again)
        assert (kv.host_valid_len("a"), kv.host.num_free) == (10, 13)

    def test_who_runs_keeps_a_prefix_that_is_copied_out(self):
        kv = family()
        job = kv.begin_swap_out("a")
        kv.quarantine(job)
        assert kv.device_valid_len("b") == 11
        compute(kv, "b", 12)
        kv.abort(job)
        kv.check_invariants()
        assert (kv.device_valid_len("b"), kv.num_free) == (12, 9)

    def test_twice_is_once(self):
        kv = manager(device=16)
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        kv.quarantine(job)
        compute(kv, "a", 10)
        again = kv.begin_swap_out("a")
        kv.quarantine(job)
        with pytest.raises(ValueError, match="^request 'a' has job 1 under way"):
            kv.rollback("a", 4)
        kv.abort(job)
        kv.check_invariants()
        assert kv.jobs("a") == (again,), "an abort after all leaves it alone too"
        land(kv, again)

    def test_a_copy_that_ends_after_all_is_not_in_quarantine(self):
        kv = family()
        job = kv.begin_swap_out("a")
        kv.quarantine(job)
        assert kv.statistics().device.quarantined == 4
        land(kv, job)
        second = kv.begin_swap_out("b")
        assert (kv.statistics().device.quarantined, kv.statistics().device.in_flight) == (0, second.num_blocks)

    def test_who_runs_is_told_whose_copy_holds_its_prefix_up(self):
        kv = family()
        kv.quarantine(kv.begin_swap_out("a"))
        with pytest.raises(ValueError, match="^request 'a' has job 0 under way"):
            kv.rollback("b", 4)

    def test_who_is_evicted_computes_again(self):
        kv = family()
        evict(kv, "a"), evict(kv, "b")
        leave_nothing_clean(kv)
        job = kv.begin_swap_in("a", 14)
        kv.quarantine(job)
        assert (kv.is_resident("b"), kv.host_valid_len("b")) == (False, 0)
        assert kv.begin_swap_in("b", 11) is None
        kv.release("a"), kv.release("b")
        assert (kv.num_free, kv.host.num_free) == (8, 12)
        kv.land(job)
        assert (kv.num_free, kv.host.num_free) == (12, 16)


def test_suspend_and_resume_copy_and_land():
    kv, moved = manager(), []
    add(kv, "a", 10)
    job = kv.suspend("a", moved.append)
    assert moved == [job]
    assert (job.direction, kv.host_valid_len("a"), kv.num_clean) == (SwapDirection.SWAP_OUT, 10, 3)
    leave_nothing_clean(kv)
    job = kv.resume("a", moved.append, num_tokens=20)
    assert (job.num_blocks, moved[-1], kv.device_blocks("a"), kv.is_resident("a")) == (3, job, 5, True)
    assert kv.suspend("a", moved.append) is None
    assert kv.resume("a", moved.append) is None
    assert len(moved) == 2


def test_a_failed_swap_in_gives_the_room_for_growth_back():
    kv = manager(device=40)
    add(kv, "p", 8)
    kv.fork("p", "c", 8)
    kv.release("p")
    evict(kv, "c")
    leave_nothing_clean(kv)
    kv.abort(kv.begin_swap_in("c", 100))
    assert kv.num_free == 40


def test_a_fork_keeps_its_parents_rank():
    kv = manager(device=20, host=8, min_tail=1)
    for request_id in ("best", "worst"):
        add(kv, request_id, 16)
        evict(kv, request_id)
    add(kv, "new", 4)
    kv.prefer(["new", "best", "worst"])
    kv.fork("best", "sample", 8)
    evict(kv, "new")
    assert [kv.host_valid_len(r) for r in ("best", "worst")] == [16, 12]


def test_a_job_coalesces_over_segments():
    kv = KVCacheManager(PagedAllocator(16), PagedAllocator(16), BLOCK_SIZE)
    add(kv, "a", 40)
    for at_token in (8, 16, 24):
        kv.fork("a", at_token, at_token)
    assert kv.begin_swap_out("a").runs.tolist() == [[0, 0, 10]]


def test_a_copy_that_raises_leaves_the_request_where_it_was():
    kv = manager()
    add(kv, "a", 10)
    kv.grow("a", 20)

    def fail(job):
        raise OSError("cable")

    with pytest.raises(OSError, match="cable"):
        kv.suspend("a", fail)
    assert (kv.is_resident("a"), kv.device_valid_len("a"), kv.host.num_free) == (True, 10, 16)
    kv.commit("a", 20)
    kv.suspend("a", lambda job: None)
    leave_nothing_clean(kv)
    with pytest.raises(OSError, match="cable"):
        kv.resume("a", fail)
    assert (kv.is_resident("a"), kv.host_valid_len("a"), kv.num_free) == (False, 20, 12)
    kv.check_invariants()

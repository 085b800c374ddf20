"""What the manager promises, one example each; any order of them is in `test_manager_machine`."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastswitch.memory import BlockGroupAllocator, KVCacheManager, OutOfBlocksError, PagedAllocator, SwapDirection
from fastswitch.memory.owner_thread import WRONG_THREAD
from tests.memory.stamped_pools import BLOCK_SIZE, leave_nothing_clean


def manager(device=12, host=16, *, reuse=True, headroom=0):
    allocators = BlockGroupAllocator(device), BlockGroupAllocator(host)
    return KVCacheManager(*allocators, BLOCK_SIZE, reuse=reuse, headroom=headroom)


def compute(kv, request_id, num_tokens):
    kv.grow(request_id, num_tokens)
    kv.commit(request_id, num_tokens)


def add(kv, request_id, num_tokens):
    kv.add(request_id)
    compute(kv, request_id, num_tokens)


def land(kv, job):
    kv.land(job)
    kv.check_invariants()


def evict(kv, request_id):
    land(kv, kv.begin_swap_out(request_id))


class TestIncrement:
    def test_second_swap_out_moves_only_what_is_new(self):
        kv = manager()
        add(kv, "a", 8)
        first = kv.begin_swap_out("a")
        land(kv, first)
        assert kv.begin_swap_in("a", 16) is None
        compute(kv, "a", 16)
        second = kv.begin_swap_out("a")
        assert first.runs.tolist() == [[0, 0, 2]]
        assert second.runs.tolist() == [[2, 2, 2]]
        assert [(entry.start_token, entry.end_token) for entry in second.ranges] == [(8, 16)]

    def test_partly_filled_last_block_is_copied_again_when_it_grew(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.begin_swap_in("a", 11)
        compute(kv, "a", 11)
        job = kv.begin_swap_out("a")
        assert job.runs.tolist() == [[2, 2, 1]]
        assert [(entry.start_token, entry.end_token) for entry in job.ranges] == [(10, 11)]

    def test_swap_in_copies_only_what_the_device_lost(self):
        # 140 blocks: the first 64 stay, since a tail is cut in pieces of at least 64
        kv = manager(device=140, host=160)
        add(kv, "a", 140 * BLOCK_SIZE)
        evict(kv, "a")
        add(kv, "b", BLOCK_SIZE)
        kv.release("b")
        job = kv.begin_swap_in("a", 140 * BLOCK_SIZE)
        assert kv.num_free == 0
        assert job.runs.tolist() == [[76, 76, 64]]

    def test_without_reuse_everything_is_copied_again(self):
        kv = manager(reuse=False)
        add(kv, "a", 10)
        evict(kv, "a")
        assert kv.begin_swap_in("a", 10) is None
        assert kv.host_copy("a")[0].groups == ()
        job = kv.begin_swap_out("a")
        assert job.num_blocks == 3
        land(kv, job)
        leave_nothing_clean(kv)
        back = kv.begin_swap_in("a", 10)
        assert (back.direction, back.num_blocks, kv.host_valid_len("a")) == (SwapDirection.SWAP_IN, 3, 10)
        land(kv, back)
        assert kv.host_valid_len("a") == 0

    def test_with_reuse_the_host_copy_is_kept(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        leave_nothing_clean(kv)
        land(kv, kv.begin_swap_in("a", 10))
        assert (kv.device_valid_len("a"), kv.host_valid_len("a"), kv.dirty_blocks("a")) == (10, 10, 0)


class TestClean:
    def test_eviction_and_return_cost_nothing(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        table = kv.block_table("a").tolist()
        assert (kv.num_clean, kv.is_resident("a")) == (3, False)
        assert kv.begin_swap_in("a", 10) is None
        assert (kv.num_clean, kv.is_resident("a"), kv.block_table("a").tolist()) == (0, True, table)
        assert kv.begin_swap_out("a") is None
        assert kv.num_clean == 3

    def test_nothing_is_clean_before_its_copy_has_landed(self):
        kv = manager()
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (9, 0, 3)
        assert (kv.host_valid_len("a"), len(kv.host_copy("a")[0].groups)) == (0, 1)
        kv.add("b")
        with pytest.raises(OutOfBlocksError):
            kv.grow("b", 10 * BLOCK_SIZE)
        land(kv, job)
        assert (kv.num_free, kv.num_clean, kv.num_vacating) == (9, 3, 0)
        kv.grow("b", 10 * BLOCK_SIZE)

    def test_unwritten_room_is_given_back_at_once(self):
        kv = manager()
        add(kv, "a", 10)
        kv.grow("a", 24)
        assert kv.num_free == 6
        kv.begin_swap_out("a")
        assert kv.num_free == 9

    def test_is_given_back_lowest_rank_first(self):
        kv = manager()
        for request_id in "abc":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.prefer(["b", "a", "c"])
        kv.add("d")
        kv.grow("d", 4)
        assert [kv.device_blocks(r) for r in "abc"] == [4, 4, 0]
        kv.grow("d", 20)
        assert [kv.device_blocks(r) for r in "abc"] == [0, 4, 0]
        assert [kv.host_valid_len(r) for r in "abc"] == [16, 16, 16]

    def test_is_given_back_before_the_last_block_is_taken_to_keep_room_in_one_piece(self):
        kv = manager(device=20, host=20, headroom=0.3)
        for request_id in "abc":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.prefer(["a", "b", "c"])
        add(kv, "d", 12)
        assert (kv.num_free, [kv.device_blocks(r) for r in "abc"]) == (5, [4, 4, 4])
        kv.grow("d", 20)
        assert (kv.num_free, [kv.device_blocks(r) for r in "abc"]) == (7, [4, 4, 0])

    def test_unnamed_ones_give_before_all_named_ones(self):
        kv = manager()
        for request_id in "abc":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.prefer(["b", "nobody", "b", "b", "a"])
        kv.add("d")
        kv.grow("d", 4)
        assert [kv.device_blocks(r) for r in "abc"] == [4, 4, 0]

    def test_a_request_that_comes_back_does_not_feed_on_itself(self):
        kv = manager()
        for request_id in "ab":
            add(kv, request_id, 24)
            evict(kv, request_id)
        kv.prefer(["b", "a"])
        assert kv.begin_swap_in("a", 28) is None
        assert [kv.device_blocks(r) for r in "ab"] == [7, 0]


class TestHostShortage:
    def filled(self):
        """Host full: a is resident, b idle and clean, c idle and clean, d swapped and not idle; 4 blocks each."""
        kv = manager(device=24, host=16)
        for request_id in "abcd":
            add(kv, request_id, 16)
            evict(kv, request_id)
        kv.begin_swap_in("a", 16)
        kv.finish_turn("b")
        kv.finish_turn("c")
        add(kv, "e", 16)
        return kv

    def held_on_host(self, kv):
        return "".join(r for r in "abcde" if kv.host_copy(r)[0].groups)

    def test_redundant_copies_go_first_then_idle_ones_lowest_rank_first(self):
        kv = self.filled()
        kv.prefer(["a", "b", "c", "d", "e"])
        assert (self.held_on_host(kv), kv.num_host_free) == ("abcd", 12)
        evict(kv, "e")
        assert (self.held_on_host(kv), kv.num_host_free) == ("bcde", 8)
        assert kv.dirty_blocks("a") == 4
        evict(kv, "a")
        assert (self.held_on_host(kv), kv.num_host_free) == ("abde", 4)
        assert (kv.device_valid_len("c"), kv.host_valid_len("c")) == (0, 0)

    def test_who_waits_to_go_on_loses_nothing(self):
        kv = manager(device=24, host=16)
        for request_id in "abcd":
            add(kv, request_id, 16)
            evict(kv, request_id)
        add(kv, "e", 16)
        assert kv.num_host_free == 0
        with pytest.raises(OutOfBlocksError):
            kv.begin_swap_out("e")
        assert [kv.host_valid_len(r) for r in "abcd"] == [16, 16, 16, 16]
        assert kv.is_resident("e")

    def test_what_a_job_reads_or_writes_is_not_touched(self):
        kv = manager(device=24, host=8)
        for request_id in "ab":
            add(kv, request_id, 16)
            evict(kv, request_id)
            kv.finish_turn(request_id)
        leave_nothing_clean(kv)
        reading = kv.begin_swap_in("a", 16)
        kv.begin_swap_in("b", 16)
        add(kv, "c", 4)
        before = kv.device_copy("a"), kv.host_copy("a"), kv.device_copy("b"), kv.host_copy("b")
        with pytest.raises(OutOfBlocksError):
            kv.begin_swap_out("c")
        assert (kv.device_copy("a"), kv.host_copy("a"), kv.device_copy("b"), kv.host_copy("b")) == before
        land(kv, reading)
        evict(kv, "c")
        assert kv.host_copy("a")[0].groups == ()

    def test_after_a_failed_swap_out_the_old_host_copy_is_redundant(self):
        kv = manager(device=24, host=4)
        add(kv, "a", 8)
        evict(kv, "a")
        kv.begin_swap_in("a", 8)
        compute(kv, "a", 12)
        kv.abort(kv.begin_swap_out("a"))
        kv.finish_turn("a")
        add(kv, "b", 16)
        evict(kv, "b")
        assert (kv.device_valid_len("a"), kv.host_valid_len("a"), kv.num_clean) == (12, 0, 4)


class TestEnds:
    def test_a_failed_swap_out_changes_nothing_but_that_it_is_evicted(self):
        kv = manager()
        add(kv, "a", 10)
        before = kv.device_copy("a"), kv.host_copy("a"), kv.num_free, kv.host.num_free
        kv.abort(kv.begin_swap_out("a"))
        assert (kv.device_copy("a"), kv.host_copy("a"), kv.num_free, kv.host.num_free) == before
        assert (kv.is_resident("a"), kv.num_clean, kv.num_vacating) == (False, 0, 0)
        assert kv.begin_swap_in("a", 10) is None
        assert kv.device_valid_len("a") == 10

    def test_a_failed_swap_in_gives_its_room_back(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        leave_nothing_clean(kv)
        kv.abort(kv.begin_swap_in("a", 20))
        assert (kv.num_free, kv.host_valid_len("a"), kv.is_resident("a")) == (12, 10, False)
        land(kv, kv.begin_swap_in("a", 20))
        assert kv.device_valid_len("a") == 10

    @pytest.mark.parametrize("end", [KVCacheManager.land, KVCacheManager.abort])
    def test_released_blocks_stay_until_the_job_has_ended(self, end):
        kv = manager()
        add(kv, "a", 10)
        job = kv.begin_swap_out("a")
        kv.release("a")
        assert (kv.num_free, kv.host.num_free, kv.num_vacating) == (9, 13, 3)
        end(kv, job)
        kv.check_invariants()
        assert (kv.num_free, kv.host.num_free, kv.num_vacating) == (12, 16, 0)

    def test_dropped_is_resident_with_nothing(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.drop("a")
        assert (kv.is_resident("a"), kv.num_free, kv.host.num_free) == (True, 12, 16)
        compute(kv, "a", 10)

    def test_rollback_cuts_both_tiers(self):
        kv = manager()
        add(kv, "a", 10)
        evict(kv, "a")
        kv.rollback("a", 5)
        assert (kv.device_valid_len("a"), kv.host_valid_len("a")) == (5, 5)
        assert (kv.num_clean, kv.num_free, kv.host.num_free) == (2, 10, 14)


class TestErrors:
    def raises(self, error, message):
        return pytest.raises(error, match=f"^{re.escape(message)}$")

    def test_full_device(self):
        kv = manager()
        add(kv, "a", 16)
        evict(kv, "a")
        add(kv, "b", 24)
        message = "need 7 blocks, 2 of 12 are free and 4 can be reclaimed"
        with self.raises(OutOfBlocksError, message):
            kv.grow("b", 24 + 7 * BLOCK_SIZE)
        kv.begin_swap_out("b")
        with self.raises(OutOfBlocksError, "need 3 blocks, 2 of 12 are free and 0 can be reclaimed"):
            kv.begin_swap_in("a", 28)

    def test_full_host(self):
        kv = manager(host=2)
        add(kv, "a", 9)
        with self.raises(OutOfBlocksError, "need 3 blocks, 2 of 2 are free and 0 can be reclaimed"):
            kv.begin_swap_out("a")

    def test_wrong_request(self):
        kv = manager()
        add(kv, "a", 4)
        with self.raises(ValueError, "request 'a' is known already"):
            kv.add("a")
        with self.raises(KeyError, "request 'b' is unknown: add it first"):
            kv.grow("b", 1)
        with self.raises(KeyError, "request 'b' is unknown: add it first"):
            kv.release("b")

    def test_wrong_side(self):
        kv = manager()
        add(kv, "a", 4)
        with self.raises(ValueError, "request 'a' is resident"):
            kv.begin_swap_in("a", 4)
        evict(kv, "a")
        for act in (kv.begin_swap_out, lambda r: kv.grow(r, 5), lambda r: kv.commit(r, 4)):
            with self.raises(ValueError, "request 'a' is evicted"):
                act("a")

    def test_job_under_way(self):
        kv = manager()
        add(kv, "a", 4)
        kv.begin_swap_out("a")
        acts = [lambda r: kv.grow(r, 5), lambda r: kv.commit(r, 4), lambda r: kv.rollback(r, 0), kv.drop]
        for act in (*acts, kv.begin_swap_out, lambda r: kv.begin_swap_in(r, 4)):
            with self.raises(ValueError, "request 'a' has job 0 under way: land or abort it first"):
                act("a")

    def test_a_namesake_of_a_released_request_has_nothing_to_do_with_its_copy(self):
        kv = manager()
        add(kv, "a", 4)
        job = kv.begin_swap_out("a")
        kv.release("a")
        add(kv, "a", 8)
        land(kv, job)
        assert (kv.device_valid_len("a"), kv.host_valid_len("a"), kv.num_free, kv.host.num_free) == (8, 0, 10, 16)

    def test_job_ends_once(self):
        kv, other = manager(), manager()
        for each in (kv, other):
            add(each, "a", 4)
        job, foreign = kv.begin_swap_out("a"), other.begin_swap_out("a")
        with self.raises(ValueError, "job 0 is not under way: it was landed or aborted before"):
            kv.land(foreign)
        kv.land(job)
        for end in (kv.land, kv.abort):
            with self.raises(ValueError, "job 0 is not under way: it was landed or aborted before"):
                end(job)

    def test_numbers(self):
        kv = manager()
        add(kv, "a", 6)
        for act in (kv.rollback, kv.grow, kv.commit):
            with self.raises(ValueError, "num_tokens must not be negative, got -1"):
                act("a", -1)
            with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
                act("a", 6.5)
        with self.raises(ValueError, "num_tokens must be in [6, 8], what it has and has room for, got 9"):
            kv.commit("a", 9)
        with self.raises(ValueError, "num_tokens must be in [6, 8], what it has and has room for, got 5"):
            kv.commit("a", 5)
        with self.raises(ValueError, "block_size must be positive, got 0"):
            KVCacheManager(PagedAllocator(1), PagedAllocator(1), 0)
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            KVCacheManager(PagedAllocator(1), PagedAllocator(1), 2.5)
        with self.raises(ValueError, "device and host need an allocator each, got the same one twice"):
            KVCacheManager(one := PagedAllocator(1), one, 1)
        one.allocate("somebody", 1)
        with self.raises(ValueError, "an allocator must be the manager's alone, this one has 1 owners"):
            KVCacheManager(one, PagedAllocator(1), 1)
        with self.raises(ValueError, "min_tail must be positive, got 0"):
            KVCacheManager(PagedAllocator(1), PagedAllocator(1), 1, min_tail=0)
        with self.raises(ValueError, "headroom must be in [0, 1], got 1.5"):
            KVCacheManager(PagedAllocator(1), PagedAllocator(1), 1, headroom=1.5)

    def test_another_thread(self):
        kv = manager()
        add(kv, "a", 4)
        with ThreadPoolExecutor(1) as other:
            for act in (
                lambda: kv.prefer(["a"]),
                lambda: kv.add("b"),
                lambda: kv.grow("a", 5),
                lambda: kv.begin_swap_out("a"),
            ):
                with self.raises(AssertionError, WRONG_THREAD):
                    other.submit(act).result()
            assert other.submit(kv.device_valid_len, "a").result() == 4, "who only looks is no owner"
            kv.hand_over()
            other.submit(compute, kv, "a", 5).result()
            with self.raises(AssertionError, WRONG_THREAD):
                kv.begin_swap_out("a")


def test_a_copy_ahead_that_hangs_leaves_alone_who_has_gone_on_without_it():
    """Its request was dropped and computed anew; what that has, and what is copied of it now, is nobody else's."""
    kv = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(16), block_size=2)
    kv.add("a")
    kv.grow("a", 8)
    kv.commit("a", 8)
    ahead = kv.begin_write_back("a", 4)
    kv.drop("a")
    kv.grow("a", 4)
    kv.commit("a", 4)
    out = kv.begin_swap_out("a")
    kv.quarantine(ahead)
    kv.check_invariants()
    assert not kv.is_resident("a")
    assert kv.jobs("a") == (out,)
    kv.land(out)
    assert kv.host_valid_len("a") == 4
    kv.abort(ahead)
    kv.release("a")
    kv.check_invariants()
    assert (kv.num_free, kv.num_host_free) == (8, 16)

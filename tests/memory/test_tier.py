"""One tier: room is held, bytes become valid, both are cut."""

import pytest

from fastswitch.memory import BlockGroup, BlockGroupAllocator, KVCopy, OutOfBlocksError, Tier


@pytest.fixture
def tier():
    return Tier(BlockGroupAllocator(8), 4)


def test_a_segment_without_a_copy(tier):
    assert (tier.valid_len("a"), tier.num_blocks("a"), tier.shortage("a", 9)) == (0, 0, 3)
    assert tier.copy("a") == KVCopy((), 0)
    assert tier.block_ids("a").tolist() == []
    tier.cut("a", 3)
    tier.trim("a")
    assert tier.segment_ids == set()


def test_room_is_held_for_tokens_not_yet_valid(tier):
    tier.hold("a", 9)
    tier.hold("a", 5)
    assert (tier.num_blocks("a"), tier.num_free, tier.valid_len("a")) == (3, 5, 0)
    tier.mark_valid("a", 9)
    assert tier.copy("a") == KVCopy((BlockGroup(0, 3),), 9)
    tier.check_invariants()


def test_cut_keeps_the_blocks_that_the_kept_tokens_fill(tier):
    tier.hold("a", 16)
    tier.mark_valid("a", 10)
    tier.cut("a", 12)
    assert (tier.num_blocks("a"), tier.valid_len("a")) == (3, 10)
    tier.cut("a", 5)
    assert (tier.num_blocks("a"), tier.valid_len("a")) == (2, 5)
    tier.cut("a", 0)
    assert (tier.num_free, tier.segment_ids) == (8, frozenset())
    tier.check_invariants()


def test_trim_gives_back_room_without_valid_tokens(tier):
    tier.hold("a", 16)
    tier.mark_valid("a", 5)
    tier.trim("a")
    assert (tier.num_blocks("a"), tier.valid_len("a")) == (2, 5)
    tier.hold("b", 16)
    tier.trim("b")
    assert tier.segment_ids == {"a"}


def test_a_full_pool_changes_nothing(tier):
    tier.hold("a", 16)
    with pytest.raises(OutOfBlocksError, match="^need 5 blocks, 4 of 8 are free$"):
        tier.hold("b", 20)
    assert (tier.num_free, tier.segment_ids) == (4, {"a"})
    tier.check_invariants()


def test_the_invariants_notice_a_foreign_owner(tier):
    tier.allocator.allocate("stranger", 2)
    with pytest.raises(AssertionError, match=r"^owned 0 \+ free 6 != 8"):
        tier.check_invariants()


@pytest.mark.parametrize(
    ("at_block", "kept", "moved"),
    [(1, (1, 4), (3, 6)), (2, (2, 8), (2, 2)), (3, (3, 10), (1, 0)), (4, (4, 10), (0, 0))],
)
def test_split_divides_blocks_and_tokens(tier, at_block, kept, moved):
    tier.hold("a", 16)
    tier.mark_valid("a", 10)
    tier.split("a", at_block, "b")
    assert (tier.num_blocks("a"), tier.valid_len("a")) == kept
    assert (tier.num_blocks("b"), tier.valid_len("b")) == moved
    assert ("b" in tier.segment_ids) == (moved[0] > 0)
    tier.split("nothing", 0, "c")
    assert "c" not in tier.segment_ids
    tier.check_invariants()

"""Who gets tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import PrefillFirst, ScheduledTokens
from tests.sched.fakes import running


def ready(*todo):
    """Residents with this many tokens to compute, best first; ids from 0."""
    return [running(i, 9, num_tokens=100 + n, device_valid_len=100) for i, n in enumerate(todo)]


def packed(max_tokens, *todo):
    output = PrefillFirst(max_tokens).pack(ready(*todo))
    return [(entry.request_id, entry.num_tokens) for entry in output.scheduled]


def test_prompts_stall_decodes():
    assert packed(100, 1, 30, 1, 20) == [(1, 30), (3, 20)]


def test_without_prompts_everyone_decodes():
    assert packed(100, 1, 1, 1) == [(0, 1), (1, 1), (2, 1)]


def test_decodes_beyond_the_budget_wait():
    assert packed(2, 1, 1, 1) == [(0, 1), (1, 1)]


def test_a_prompt_that_does_not_fit_waits_and_is_not_overtaken():
    assert packed(50, 30, 40, 10) == [(0, 30)]


def test_prompts_fill_the_budget_exactly():
    assert packed(50, 30, 20, 10) == [(0, 30), (1, 20)]


def test_a_prompt_longer_than_the_budget_is_computed_in_pieces():
    assert packed(50, 120, 10) == [(0, 50)]


def test_nobody_is_ready():
    output = PrefillFirst().pack([])
    assert (output.scheduled, output.num_tokens) == ((), 0)


def test_default_budget():
    assert PrefillFirst().max_tokens == 8192


def test_output_counts_its_tokens():
    output = PrefillFirst(50).pack(ready(30, 20))
    assert output.scheduled == (ScheduledTokens(0, 100, 30), ScheduledTokens(1, 100, 20))
    assert output.num_tokens == 50


@given(st.integers(1, 60), st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_packs_a_prefix_of_its_kind_within_the_budget(max_tokens, todo):
    batch = packed(max_tokens, *todo)
    kind = [(i, n) for i, n in enumerate(todo) if n > 1] or list(enumerate(todo))
    assert batch
    assert sum(n for _, n in batch) <= max_tokens
    assert [i for i, _ in batch] == [i for i, _ in kind[: len(batch)]]
    # whole, but for one that is longer than the whole budget
    assert batch == kind[: len(batch)] or batch == [(kind[0][0], max_tokens)]


def test_max_tokens_is_checked():
    with pytest.raises(ValueError, match="^max_tokens must be positive, got 0$"):
        PrefillFirst(0)

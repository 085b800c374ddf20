"""Prompts in pieces beside decodes: Sarathi-Serve's rules, worked by hand and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastswitch.sched import ChunkedPrefill, ScheduledTokens
from tests.sched.fakes import running

HISTORY = 100  # tokens of every request that have KV before its turn


def decode():
    """Answering: its newest token alone lacks KV."""
    return {"prompt": 20, "done": 20, "generated": 1}


def prompt(num_tokens, done=0):
    return {"prompt": num_tokens, "done": done, "generated": 0}


def resident(request_id, prompt, done, generated):
    """``done`` of the prompt's tokens, or of those behind it, have KV."""
    num_tokens = HISTORY + prompt + generated
    valid = HISTORY + done
    return running(request_id, 9, num_tokens=num_tokens, device_valid_len=valid, num_prompt_tokens=prompt)


def packed(token_budget, *residents):
    """(id, tokens) as packed; ids from 0, best first."""
    ready = [resident(i, **each) for i, each in enumerate(residents)]
    return [(entry.request_id, entry.num_tokens) for entry in ChunkedPrefill(token_budget).pack(ready).scheduled]


# By hand


def test_a_prompt_gets_what_the_decodes_leave():
    assert packed(16, decode(), prompt(30), decode()) == [(0, 1), (2, 1), (1, 14)]


def test_decodes_run_though_better_ranked_prompts_fill_the_budget():
    assert packed(16, prompt(30), prompt(30), decode()) == [(2, 1), (0, 15)]


def test_prompts_that_are_begun_come_before_new_ones_of_better_rank():
    assert packed(16, prompt(10), decode(), prompt(20, done=16)) == [(1, 1), (2, 4), (0, 10)]


def test_what_is_left_behind_one_prompt_goes_to_the_next():
    assert packed(16, prompt(10), prompt(3), prompt(8)) == [(0, 10), (1, 3), (2, 3)]


def test_the_best_ranked_of_several_that_are_begun_comes_first():
    assert packed(16, prompt(40, done=1), prompt(40, done=30)) == [(0, 16)]


def test_without_decodes_a_prompt_has_the_whole_budget():
    assert packed(16, prompt(40)) == [(0, 16)]


def test_exactly_as_many_decodes_as_the_budget_leave_nothing_for_prompts():
    assert packed(3, decode(), prompt(9), decode(), decode()) == [(0, 1), (2, 1), (3, 1)]


def test_of_more_decodes_than_the_budget_the_best_get_their_token():
    assert packed(2, decode(), prompt(9, done=3), decode(), decode()) == [(0, 1), (2, 1)]


def test_a_last_token_of_a_prompt_is_never_stalled():
    assert packed(4, prompt(9), prompt(5, done=4), decode()) == [(1, 1), (2, 1), (0, 2)]


def test_one_that_lost_its_kv_is_new_until_less_than_its_prompt_is_missing():
    lost = {"prompt": 10, "done": -HISTORY, "generated": 5}
    found_again = {"prompt": 10, "done": 6, "generated": 5}  # lacks 9
    assert packed(8, prompt(4), lost) == [(0, 4), (1, 4)]
    assert packed(12, prompt(4), found_again) == [(1, 9), (0, 3)]


def test_where_nothing_is_cut_everybody_gets_everything():
    assert packed(8192, prompt(30), decode(), prompt(20)) == [(1, 1), (0, 30), (2, 20)]


def test_pieces_start_where_the_kv_ends():
    output = ChunkedPrefill(8).pack([resident(0, **prompt(30, done=12)), resident(1, **decode())])
    assert output.scheduled == (ScheduledTokens(1, HISTORY + 20, 1), ScheduledTokens(0, HISTORY + 12, 7))
    assert output.num_tokens == 8


def test_nobody_is_ready():
    assert ChunkedPrefill().pack([]).scheduled == ()


def test_the_budget_is_checked():
    with pytest.raises(ValueError, match="^token_budget must be positive, got 0$"):
        ChunkedPrefill(0)


# Always

RESIDENTS = st.lists(
    st.one_of(
        st.just(decode()),
        st.integers(1, 40).flatmap(lambda n: st.builds(prompt, st.just(n), st.integers(0, n - 1))),
        st.builds(
            lambda n, lost, generated: {"prompt": n, "done": -lost, "generated": generated},
            st.integers(1, 40),
            st.integers(0, HISTORY),
            st.integers(0, 5),
        ),
    ),
    max_size=12,
)


@given(st.integers(1, 60), RESIDENTS)
def test_any_batch(token_budget, residents):
    ready = [resident(i, **each) for i, each in enumerate(residents)]
    missing = [request.num_tokens - request.device_valid_len for request in ready]
    batch = packed(token_budget, *residents)
    given_to = dict(batch)
    assert len(given_to) == len(batch), "nobody is there twice"
    assert all(1 <= n <= missing[i] for i, n in batch)
    decodes = [i for i, lacking in enumerate(missing) if lacking == 1]
    assert [i for i, _ in batch][: len(decodes)] == decodes[:token_budget], "decodes first, best first"
    # as many tokens as there is budget or work
    assert sum(given_to.values()) == min(token_budget, sum(missing))
    assert all(n == missing[i] for i, n in batch[:-1]), "nobody comes behind one that is cut"
    begun = [i for i, lacking in enumerate(missing) if 1 < lacking < ready[i].num_prompt_tokens]
    new = [i for i, lacking in enumerate(missing) if lacking > 1 and i not in begun]
    order = decodes[:token_budget] + begun + new
    assert [i for i, _ in batch] == order[: len(batch)]


@given(st.integers(1, 40), st.lists(st.integers(2, 90), min_size=1, max_size=6), st.integers(0, 12))
def test_prompts_take_as_many_rounds_as_their_tokens_need(token_budget, lengths, num_decodes):
    """With answers that go on, a round computes what they leave of the budget; with none left over, nothing."""
    chunk = token_budget - num_decodes
    requests = [resident(i, **decode()) for i in range(num_decodes)]
    prompts = [resident(num_decodes + i, **prompt(n)) for i, n in enumerate(lengths)]
    packer, rounds = ChunkedPrefill(token_budget), 0
    while any(request.num_tokens - request.device_valid_len > 0 for request in prompts):
        ready = [*requests, *(each for each in prompts if each.num_tokens > each.device_valid_len)]
        before = [each.device_valid_len for each in prompts]
        for entry in packer.pack(ready).scheduled:
            if entry.request_id >= num_decodes:
                assert entry.start == before[entry.request_id - num_decodes]
                prompts[entry.request_id - num_decodes].device_valid_len += entry.num_tokens
        if chunk <= 0:
            assert before == [each.device_valid_len for each in prompts]
            return
        rounds += 1
    # a prompt that lacks one token overtakes others, and takes nothing from anybody's sum
    assert rounds == -(-sum(lengths) // chunk)

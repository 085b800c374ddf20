import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.workloads import Conversation, Turn, Workload, WorkloadError, select


def lengths_only(counts):
    conversations = (Conversation(i, (Turn(100 + i, 40),) * count) for i, count in enumerate(counts))
    return Workload("lengths", 0, tuple(conversations))


def timed(counts):
    conversations = (Conversation(i, (Turn(100 + i, 40),) * count, arrival_s=2.0 * i) for i, count in enumerate(counts))
    return Workload("timed", 0, tuple(conversations))


counts = st.lists(st.integers(1, 6), min_size=1, max_size=30)


def message_of(workload, **options):
    with pytest.raises(WorkloadError) as caught:
        select(workload, **options)
    return str(caught.value)


@settings(derandomize=True)
@given(counts, st.integers(1, 6), st.integers(1, 60), st.integers(0, 2**40))
def test_draws_from_the_long_enough(counts, min_turns, wanted, seed):
    if min_turns > max(counts):
        return
    workload = lengths_only(counts)
    chosen = select(workload, conversations=wanted, min_turns=min_turns, seed=seed)
    assert chosen == select(workload, conversations=wanted, min_turns=min_turns, seed=seed)
    assert len(chosen) == wanted
    assert chosen.seed == seed
    kept = {each.turns for each in workload.conversations if len(each.turns) >= min_turns}
    assert {each.turns for each in chosen.conversations} <= kept


@settings(derandomize=True)
@given(counts, st.integers(1, 6), st.integers(1, 30))
def test_takes_the_first_where_arrivals_are_recorded(counts, min_turns, wanted):
    workload = timed(counts)
    kept = [each for each in workload.conversations if len(each.turns) >= min_turns]
    if not 1 <= wanted <= len(kept):
        return
    chosen = select(workload, conversations=wanted, min_turns=min_turns)
    assert [(c.arrival_s, c.turns) for c in chosen.conversations] == [(c.arrival_s, c.turns) for c in kept[:wanted]]


def test_nothing_asked_is_everything():
    workload = lengths_only([1, 2, 3])
    assert select(workload) == workload


def test_a_draw_finds_them_all_and_depends_on_the_seed():
    workload = lengths_only([1] * 10)
    drawn = select(workload, conversations=200, seed=1)
    assert {each.turns for each in drawn.conversations} == {each.turns for each in workload.conversations}
    assert drawn.conversations != select(workload, conversations=200, seed=2).conversations


def test_drawn_twice_has_other_tokens():
    workload = select(lengths_only([1]), conversations=2)
    assert workload.prompt_tokens(0, 0, 1000) != workload.prompt_tokens(1, 0, 1000)


@settings(derandomize=True)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(1e-6, 100))
def test_scale_of_lengths(asked, answer, scale):
    scaled = select(Workload("one", 0, (Conversation(0, (Turn(asked, answer, gap_s=3.0),)),)), scale=scale)
    turn = scaled.conversations[0].turns[0]
    assert (turn.input_tokens, turn.output_tokens) == (max(1, round(asked * scale)), max(1, round(answer * scale)))
    assert turn.gap_s == 3.0


@pytest.mark.parametrize(
    ("scale", "kept", "text", "answer"),
    [(0.5, (1, 2), None, 5), (1, (1, 2, 3, 4), "abcd", 10), (3, (1, 2, 3, 4), "abcd", 30), (1e-9, (1,), None, 1)],
)
def test_scale_of_text(scale, kept, text, answer):
    workload = Workload("text", 0, (Conversation(0, (Turn(4, 10, text="abcd", text_tokens=(1, 2, 3, 4)),)),))
    turn = select(workload, scale=scale).conversations[0].turns[0]
    assert turn == Turn(len(kept), answer, text=text, text_tokens=kept)


@pytest.mark.parametrize(
    ("workload", "options", "message"),
    [
        (lengths_only([1]), {"scale": 0.0}, "scale must be a finite number above 0, got 0.0"),
        (lengths_only([1]), {"scale": -1}, "scale must be a finite number above 0, got -1"),
        (lengths_only([1]), {"scale": math.nan}, "scale must be a finite number above 0, got nan"),
        (lengths_only([1]), {"scale": math.inf}, "scale must be a finite number above 0, got inf"),
        (lengths_only([1]), {"scale": 1e300}, "input_tokens must be 1 to 2147483647, got 9007199254740992"),
        (lengths_only([1]), {"conversations": 0}, "conversations must be at least 1, got 0"),
        (lengths_only([1]), {"min_turns": 0}, "min_turns must be at least 1, got 0"),
        (lengths_only([1]), {"conversations": 1, "seed": -1}, "seed must be an integer of at least 0, got -1"),
        (
            lengths_only([1, 3]),
            {"min_turns": 4},
            "min_turns 4 leaves none of the 2 conversations of lengths; the longest has 3 turns",
        ),
        (
            timed([1]),
            {"min_turns": 2},
            "min_turns 2 leaves none of the 1 conversations of timed; the longest has 1 turn",
        ),
        (
            timed([1, 3, 3]),
            {"conversations": 3, "min_turns": 2},
            "need 3 conversations, timed has 2 long enough; it records arrivals, so none is used twice: ask for fewer",
        ),
    ],
)
def test_errors(workload, options, message):
    assert message_of(workload, **options) == message

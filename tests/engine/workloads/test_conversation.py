import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.workloads import Conversation, Turn, Workload, WorkloadError
from fastswitch.engine.workloads.draws import Purpose, stream

TWO = Workload("two", 5, (Conversation(0, (Turn(100, 20), Turn(7, 3))), Conversation(1, (Turn(100, 20),))))

turns = st.builds(Turn, st.integers(1, 200), st.integers(1, 200))
turn_lists = st.lists(st.lists(turns, min_size=1, max_size=5), min_size=1, max_size=8)


def workload_of(lists):
    return Workload("any", 0, tuple(Conversation(index, tuple(each)) for index, each in enumerate(lists)))


def message_of(call, *args):
    with pytest.raises(WorkloadError) as caught:
        call(*args)
    return str(caught.value)


@settings(derandomize=True)
@given(turn_lists, st.integers(1, 32))
def test_sums(lists, block_size):
    workload = workload_of(lists)
    lengths = [sum(turn.input_tokens + turn.output_tokens for turn in each) for each in lists]
    assert workload.num_turns == sum(map(len, lists))
    assert workload.input_tokens + workload.output_tokens == sum(lengths)
    assert workload.max_context == max(lengths)
    demand = workload.peak_demand_blocks(block_size) * block_size
    assert sum(lengths) <= demand < sum(lengths) + len(lists) * block_size


def test_summary_is_json():
    assert json.loads(json.dumps(TWO.summary())) == {
        "name": "two",
        "seed": 5,
        "conversations": 2,
        "turns": 3,
        "input_tokens": 207,
        "output_tokens": 43,
        "mean_turns": 1.5,
        "max_context_tokens": 130,
    }


def test_drawn_tokens_depend_on_seed_conversation_and_turn_alone():
    tokens = TWO.prompt_tokens(0, 0, 50)
    assert len(tokens) == 100
    assert set(tokens) <= set(range(50))
    assert all(type(token) is int for token in tokens)
    assert len(set(tokens)) > 30
    alone = Workload("other", 5, TWO.conversations[:1])
    assert alone.prompt_tokens(0, 1, 50) == TWO.prompt_tokens(0, 1, 50)
    assert alone.prompt_tokens(0, 0, 50) == tokens
    assert TWO.prompt_tokens(1, 0, 50) != tokens
    assert TWO.prompt_tokens(0, 1, 50) != tokens[:7]
    assert Workload("two", 6, TWO.conversations).prompt_tokens(0, 0, 50) != tokens


def test_text_is_its_own_tokens():
    workload = Workload("text", 0, (Conversation(0, (Turn(2, 1, text="hi", text_tokens=(104, 105)),)),))
    assert workload.prompt_tokens(0, 0, 256) == [104, 105]
    assert message_of(workload.prompt_tokens, 0, 0, 105) == (
        "token 105 of conversation 0, turn 0 is outside the vocabulary of 105;"
        " encode the text with the model's own tokenizer"
    )


def test_what_is_recorded():
    assert not TWO.records_arrivals
    assert not TWO.records_gaps
    timed = Workload("timed", 0, (Conversation(0, (Turn(1, 1), Turn(1, 1, gap_s=0.0)), arrival_s=0.0),))
    assert timed.records_arrivals
    assert timed.records_gaps


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Turn(0, 1), "input_tokens must be 1 to 2147483647, got 0"),
        (lambda: Turn(1, 2**31), "output_tokens must be 1 to 2147483647, got 2147483648"),
        (lambda: Turn(2, 1, text_tokens=(1,)), "text_tokens must be input_tokens = 2, got 1"),
        (lambda: Conversation(3, ()), "conversation 3 must have at least one turn, got none"),
        (lambda: Workload("w", 0, ()), "workload w must have at least one conversation, got none"),
        (
            lambda: Workload("w", 0, (Conversation(1, (Turn(1, 1),)),)),
            "conversation at position 0 must have that index, got 1",
        ),
        (
            lambda: Workload("w", 0, (Conversation(0, (Turn(1, 1),)), Conversation(1, (Turn(1, 1),), arrival_s=0.0))),
            "all conversations or none must have an arrival, 1 of 2 have one",
        ),
        (lambda: TWO.peak_demand_blocks(0), "block_size must be at least 1, got 0"),
        (lambda: TWO.prompt_tokens(0, 0, 0), "vocab_size must be at least 1, got 0"),
        (lambda: stream(-1, Purpose.THINK), "seed must be an integer of at least 0, got -1"),
        (lambda: stream(True, Purpose.THINK), "seed must be an integer of at least 0, got True"),
    ],
)
def test_errors(call, message):
    assert message_of(call) == message


def test_streams_of_two_purposes_differ():
    draws = {stream(0, purpose, 1, 2).random() for purpose in Purpose}
    assert len(draws) == len(Purpose)

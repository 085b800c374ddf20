"""Conversations dealt to clients, and tables of what clients are entitled to."""

from __future__ import annotations

import gzip
import re
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fastswitch.engine.workloads import WorkloadError, deal_clients, read_client_weights, synthetic_workload


def demand(workload):
    return Counter(conversation.client_id for conversation in workload.conversations)


def test_shares_fall_as_one_over_the_rank():
    workload = synthetic_workload(conversations=1103)
    # 1100 beside one each; 1, 1/2 and 1/3 of 11/6
    assert demand(deal_clients(workload, ["a", "b", "c"])) == {"a": 601, "b": 301, "c": 201}


@given(st.integers(1, 40), st.data())
def test_everybody_asks_for_something_and_the_first_for_most(num_conversations, data):
    num_clients = data.draw(st.integers(1, num_conversations))
    workload = synthetic_workload(conversations=num_conversations)
    dealt = deal_clients(workload, range(num_clients), seed=data.draw(st.integers(0, 5)))
    found = demand(dealt)
    assert sorted(found) == list(range(num_clients))
    assert sum(found.values()) == num_conversations
    assert found[0] == max(found.values())
    assert [each.turns for each in dealt.conversations] == [each.turns for each in workload.conversations]
    assert dealt.records_clients
    assert not workload.records_clients


def test_who_asks_depends_on_the_seed_alone():
    workload = synthetic_workload(conversations=30)
    one, same, other = (deal_clients(workload, range(5), seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert demand(one) == demand(other)
    assert one == deal_clients(other, range(5), seed=1), "whatever was recorded before"


@pytest.mark.parametrize("number", [0, 6])
def test_clients_without_a_conversation_are_refused(number):
    message = f"clients must be 1 to 5, a conversation each at least, got {number}; "
    message += "ask for fewer clients or more conversations"
    with pytest.raises(WorkloadError, match=f"^{re.escape(message)}$"):
        deal_clients(synthetic_workload(conversations=5), range(number))


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_a_table_of_weights(tmp_path, pack):
    path = tmp_path / "w"
    path.write_bytes(pack(b"client_id, weight\n7,2\n\n me ,0.5\n"))
    assert list(read_client_weights(path).items()) == [(7, 2.0), ("me", 0.5)]


@pytest.mark.parametrize("text", ["", "client_id,input_tokens,output_tokens\n1,2,3\n", '{"client_id": 1}\n'])
def test_another_file_is_none(tmp_path, text):
    path = tmp_path / "w"
    path.write_text(text)
    assert read_client_weights(path) is None


MISTAKES = {
    "no row": ("client_id,weight\n", "1: a row must follow the header, got none"),
    "a field too many": ("client_id,weight\na,1,2\n", "2: must have the 2 fields client_id, weight, got 3"),
    "twice": ("client_id,weight\na,1\nb,1\na,2\n", "4: each client must have one weight, got a second one of 'a'"),
    "nobody": ("client_id,weight\n ,1\n", "2: client_id must name a client, got nothing"),
    "nothing": ("client_id,weight\na,0\n", "2: weight must be a number of 1e-06 to 1e+06, got '0'"),
    "negative": ("client_id,weight\na,-1\n", "2: weight must be a number of 1e-06 to 1e+06, got '-1'"),
    "no number": ("client_id,weight\na,much\n", "2: weight must be a number of 1e-06 to 1e+06, got 'much'"),
    "not a number": ("client_id,weight\na,nan\n", "2: weight must be a number of 1e-06 to 1e+06, got 'nan'"),
    "infinite": ("client_id,weight\na,inf\n", "2: weight must be a number of 1e-06 to 1e+06, got 'inf'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_weights_is_one_line(tmp_path, case):
    text, message = MISTAKES[case]
    path = tmp_path / "w"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{path}:{message}')}$"):
        read_client_weights(path)


def test_no_weights_there():
    with pytest.raises(WorkloadError, match=r"^/nowhere/w: no such file$"):
        read_client_weights("/nowhere/w")

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastswitch.engine.workloads import Turn, WorkloadError, encode_utf8, read_workload
from fastswitch.engine.workloads.formats import KNOWN_FORMATS

SHAREGPT = {"conv_id": 0, "part": 0, "lead_tokens": 100, "turns": [[0, 5, 0, 20], [7, 0, 30, 0]]}
MOONCAKE = {
    "session_id": 1,
    "start_ms": 3000,
    "max_context": 128,
    "turns": [[1, 90, 90, 10, None], [9, 100, 0, 28, 45.5]],
}
AGENTIC = {
    "session_id": "trace_0001",
    "parent": None,
    "start": 0.0,
    "requests": [
        {"t": 2.0, "in": 100, "out": 20, "runs": [[1, 1]]},
        {"t": 9.5, "in": 150, "out": 0},  # 30 are new
        {"t": 9.5, "in": 60, "out": 10},  # compacted: the history of 151 stays
        {"t": 20.0, "in": 200, "out": 5},  # and is outgrown: 162 are there
    ],
}
MTBENCH = {"row": 0, "task": "GR", "turns": [["hé", "yes"], ["", "no!!"]]}
TABLE = "row,arrival_s,input_tokens,output_tokens\n0,1.5,374,44\n1,4.25,0,109\n"


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def written(tmp_path, text, name="trace", pack=bytes):
    path = tmp_path / name
    path.write_bytes(pack(text.encode()))
    return path


def message_of(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(WorkloadError) as caught:
        read_workload(path)
    assert "\n" not in str(caught.value)
    place, message = str(caught.value).split(": ", 1)
    return place.removeprefix(str(path)), message


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["trace.jsonl", "trace.csv", "trace.gz"])
class TestFormats:
    """Every format, plain and packed, under right and wrong names."""

    def test_sharegpt(self, tmp_path, pack, name):
        workload = read_workload(written(tmp_path, jsonl(SHAREGPT, SHAREGPT) + "\n\n", name, pack), seed=3)
        assert (workload.name, workload.seed) == (name, 3)
        assert [conversation.index for conversation in workload.conversations] == [0, 1]
        assert workload.conversations[1].turns == (Turn(101, 5), Turn(7, 1))
        assert not workload.records_arrivals

    def test_mooncake(self, tmp_path, pack, name):
        later = MOONCAKE | {"start_ms": 4500}
        workload = read_workload(written(tmp_path, jsonl(MOONCAKE, later), name, pack))
        assert workload.conversations[0].turns == (Turn(90, 10), Turn(1, 28, gap_s=45.5))
        assert [conversation.arrival_s for conversation in workload.conversations] == [0.0, 1.5]

    def test_agentic_sessions(self, tmp_path, pack, name):
        workload = read_workload(written(tmp_path, jsonl(AGENTIC, AGENTIC), name, pack))
        turns = (Turn(100, 20), Turn(30, 1, gap_s=7.5), Turn(1, 10, gap_s=0.0), Turn(38, 5, gap_s=10.5))
        assert [each.turns for each in workload.conversations] == [turns, turns]
        assert workload.conversations[0].arrival_s is None

    def test_requests_that_name_the_one_before_are_turns_of_one_conversation(self, tmp_path, pack, name):
        rows = [
            (7, -1, 0, 100, 20),
            (8, -1, 500, 5, 5),
            (9, 7, 9000, 126, 10),
            (10, 7, 9500, 140, 1),
            (11, 9, 12000, 136, 3),
        ]
        names = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length")
        workload = read_workload(
            written(tmp_path, jsonl(*(dict(zip(names, row, strict=True)) for row in rows)), name, pack)
        )
        assert [(each.arrival_s, each.turns) for each in workload.conversations] == [
            (0.0, (Turn(100, 20), Turn(6, 10, gap_s=9.0), Turn(1, 3, gap_s=3.0))),  # 136 - 120 - 16: nothing is new
            (0.5, (Turn(5, 5),)),
            (9.5, (Turn(140, 1),)),  # it branches off 7, which went on with 9
        ]

    def test_requests_without_names_are_conversations_of_one_turn(self, tmp_path, pack, name):
        rows = [{"timestamp": 0, "input_length": 4, "output_length": 0, "hash_ids": []}] * 2
        workload = read_workload(written(tmp_path, jsonl(*rows), name, pack))
        assert [each.turns for each in workload.conversations] == [(Turn(4, 1),)] * 2

    def test_a_request_that_forgets_its_history_begins_anew(self, tmp_path, pack, name):
        rows = [(1, -1, 0, 100, 20), (2, 1, 1000, 119, 1)]
        names = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length")
        workload = read_workload(
            written(tmp_path, jsonl(*(dict(zip(names, row, strict=True)) for row in rows)), name, pack)
        )
        assert [each.turns for each in workload.conversations] == [(Turn(100, 20),), (Turn(119, 1),)]

    def test_mtbench101(self, tmp_path, pack, name):
        path = written(tmp_path, jsonl(MTBENCH), name, pack)
        assert read_workload(path).conversations[0].turns == (
            Turn(3, 3, text="hé", text_tokens=(104, 195, 169)),
            Turn(1, 4),
        )
        words = read_workload(path, encode=lambda text: [len(text)] if text else [])
        assert words.conversations[0].turns == (Turn(1, 1, text="hé", text_tokens=(2,)), Turn(1, 1))

    def test_table_with_arrivals(self, tmp_path, pack, name):
        workload = read_workload(written(tmp_path, TABLE, name, pack))
        assert [conversation.turns for conversation in workload.conversations] == [(Turn(374, 44),), (Turn(1, 109),)]
        assert [conversation.arrival_s for conversation in workload.conversations] == [0.0, 2.75]

    def test_table_of_lengths(self, tmp_path, pack, name):
        workload = read_workload(written(tmp_path, "row,input_tokens,output_tokens\r\n0,42,285\r\n", name, pack))
        assert workload.conversations[0].turns == (Turn(42, 285),)
        assert not workload.records_arrivals

    def test_table_with_clients(self, tmp_path, pack, name):
        text = "req_id,client_id,arrival_s,input_tokens,output_tokens\n0,13,0.0,5,6\n1,me,0.0,7,8\n"
        workload = read_workload(written(tmp_path, text, name, pack))
        assert [conversation.client_id for conversation in workload.conversations] == [13, "me"]


@settings(derandomize=True)
@given(rows=st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=20))
def test_lengths_come_back(tmp_path_factory, rows):
    path = written(
        tmp_path_factory.mktemp("rows"),
        "output_tokens, input_tokens\n" + "".join(f"{answer},{asked}\n" for asked, answer in rows),
    )
    turns = [conversation.turns[0] for conversation in read_workload(path).conversations]
    assert turns == [Turn(max(1, asked), max(1, answer)) for asked, answer in rows]


def test_encoder_of_bytes():
    assert encode_utf8("é") == [195, 169]


KNOWN = f"known are {KNOWN_FORMATS}"
ONE_OBJECT = "must be one JSON object, got"
TOO_MUCH = f"{ONE_OBJECT} one too deep or with too long a number"
SHAREGPT_TURN = "must be [user_tokens, assistant_tokens, user_chars, assistant_chars], got"
MOONCAKE_TURN = "must be [chat_id, input_length, new_tokens, output_length, gap_s], got"
COLUMNS = "must have the 4 fields 'row, arrival_s, input_tokens, output_tokens', got"
LENGTH = "must be an integer of 0 to 2147483647, got"
TIME = "must be a number of 0 to 1e+15, got"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "", f"the file is empty; {KNOWN}"),
        (" \n\n", "", f"the file is empty; {KNOWN}"),
        ('{"question_id": 1, "turns": []}', ":1", f"unknown format with the fields 'question_id, turns'; {KNOWN}"),
        ("TIMESTAMP,tokens\n0,1\n", ":1", f"unknown format with the fields 'TIMESTAMP, tokens'; {KNOWN}"),
        ("{}\n", ":1", f"unknown format with the fields ''; {KNOWN}"),
        (jsonl(SHAREGPT) + '{"conv_id" 1}', ":2", f"{ONE_OBJECT} a mistake at column 12 (Expecting ':' delimiter)"),
        (jsonl(SHAREGPT) + "[1]\n", ":2", f"{ONE_OBJECT} [1]"),
        (jsonl(SHAREGPT) + '{"conv_id": ' + "9" * 5000 + "}", ":2", TOO_MUCH),
        ('{"conv_id": ' + "[" * 200_000, ":1", TOO_MUCH),
        (
            jsonl(SHAREGPT, {"conv_id": 1, "turns": []}),
            ":2",
            "the record must have the fields conv_id, lead_tokens, turns; lead_tokens is missing",
        ),
        (jsonl(SHAREGPT | {"lead_tokens": -1}), ":1", f"lead_tokens {LENGTH} -1"),
        (jsonl(SHAREGPT | {"lead_tokens": True}), ":1", f"lead_tokens {LENGTH} True"),
        (jsonl(SHAREGPT | {"turns": []}), ":1", "turns must be a list of at least one turn, got []"),
        (jsonl(SHAREGPT | {"turns": "no"}), ":1", "turns must be a list of at least one turn, got 'no'"),
        (jsonl(SHAREGPT | {"turns": [[1, 2]]}), ":1", f"turn 0 {SHAREGPT_TURN} [1, 2]"),
        (jsonl(SHAREGPT | {"turns": [[1, 2, 3, 4], [1.5, 2, 3, 4]]}), ":1", f"user_tokens of turn 1 {LENGTH} 1.5"),
        (jsonl(SHAREGPT | {"turns": [[1, float("nan"), 3, 4]]}), ":1", f"assistant_tokens of turn 0 {LENGTH} nan"),
        (jsonl(SHAREGPT | {"turns": [["x" * 200, 2, 3, 4]]}), ":1", f"user_tokens of turn 0 {LENGTH} '{'x' * 116}..."),
        (jsonl(MOONCAKE | {"start_ms": -3}), ":1", f"start_ms {TIME} -3"),
        (jsonl(MOONCAKE | {"start_ms": "0"}), ":1", f"start_ms {TIME} '0'"),
        (jsonl(MOONCAKE | {"turns": [[1, 2, 3, None, None]]}), ":1", f"output_length of turn 0 {LENGTH} None"),
        (jsonl(MOONCAKE | {"turns": [[1, 2, -3, 4, None]]}), ":1", f"new_tokens of turn 0 {LENGTH} -3"),
        (jsonl(MOONCAKE | {"turns": [[1, 2, 3, 4, None], [1, 2, 3, 4, None]]}), ":1", f"gap_s of turn 1 {TIME} None"),
        (
            jsonl(MOONCAKE | {"turns": [[1, 2, 3, 4, None], [1, 2, 3, 4, float("inf")]]}),
            ":1",
            f"gap_s of turn 1 {TIME} inf",
        ),
        (jsonl(MOONCAKE | {"turns": [[1, 2, 3, 4]]}), ":1", f"turn 0 {MOONCAKE_TURN} [1, 2, 3, 4]"),
        (
            jsonl(MOONCAKE, MOONCAKE | {"start_ms": 2000}),
            ":2",
            "arrivals must not decrease, got 2.0 s after 3.0 s; sort the file",
        ),
        (jsonl(MTBENCH | {"turns": [["hi", 5]]}), ":1", "assistant text of turn 0 must be text, got 5"),
        (jsonl(MTBENCH | {"turns": [["hi"]]}), ":1", "turn 0 must be [user, assistant], got ['hi']"),
        (
            jsonl(MTBENCH | {"turns": [["a\ud800", "b"]]}),
            ":1",
            "user text of turn 0 must be Unicode text, got a lone surrogate at character 2",
        ),
        (TABLE + "2,5.0,1\n", ":4", f"{COLUMNS} 3"),
        (TABLE + "2,5.0,1,2,3\n", ":4", f"{COLUMNS} 5"),
        (TABLE + "2,5.0,many,2\n", ":4", f"input_tokens {LENGTH} 'many'"),
        (TABLE + "2,5.0,-1,2\n", ":4", f"input_tokens {LENGTH} '-1'"),
        (TABLE + "2,5.0,nan,2\n", ":4", f"input_tokens {LENGTH} 'nan'"),
        (TABLE + "2,5.0,1,2.0\n", ":4", f"output_tokens {LENGTH} '2.0'"),
        (TABLE + "2,5.0,1,2147483648\n", ":4", f"output_tokens {LENGTH} '2147483648'"),
        (TABLE + "2,5.0,1,²\n", ":4", f"output_tokens {LENGTH} '\\xb2'"),
        (TABLE + "2,nan,1,2\n", ":4", f"arrival_s {TIME} 'nan'"),
        (TABLE + "2,soon,1,2\n", ":4", f"arrival_s {TIME} 'soon'"),
        (TABLE + "2,-5,1,2\n", ":4", f"arrival_s {TIME} '-5'"),
        (TABLE + "\n2,4.0,1,2\n", ":5", "arrivals must not decrease, got 4.0 s after 4.25 s; sort the file"),
        (TABLE + '2,"4.0,1,2\n', ":4", "must be one row of CSV (unexpected end of data)"),
        ("input_tokens,output_tokens\n\n", ":1", "a row must follow the header, got none"),
    ],
)
def test_errors(tmp_path, text, place, message):
    assert message_of(tmp_path / "trace", text) == (place, message)


def test_errors_of_the_file_reach_the_caller(tmp_path):
    with pytest.raises(WorkloadError) as caught:
        read_workload(tmp_path / "none.csv")
    assert str(caught.value) == f"{tmp_path}/none.csv: no such file"


@settings(derandomize=True, max_examples=300)
@given(data=st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda tail: b'{"conv_id":' + tail)))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(data)
    try:
        read_workload(path)
    except WorkloadError as error:
        assert len(str(error).splitlines()) == 1

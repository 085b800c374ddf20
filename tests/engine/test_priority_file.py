"""Levels from a file, and what is wrong with it, by line."""

from __future__ import annotations

import gzip
import json

import pytest

from fastswitch.engine.priority_file import read_priorities
from fastswitch.engine.workloads import WorkloadError

CSV = "level, update ,conversation,note\n3,0,0,\n1,4,0,calmer\n\n2,0,7,\n"
JSON = """{"update": 0, "conversation": 0, "level": 3}
{"level": 1, "conversation": 0, "update": 4, "note": 1}
{"update": 0, "conversation": 7, "level": 2}
"""


@pytest.mark.parametrize("text", [CSV, JSON, CSV.replace("\n", "\r\n"), "\ufeff" + CSV])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_csv_and_json_lines_plain_or_gzip_say_the_same(tmp_path, text, pack):
    path = tmp_path / "levels"
    path.write_bytes(pack(text.encode()))
    recorded = read_priorities(path)
    assert [recorded.level(0, update) for update in (0, 3, 4, 100)] == [3, 3, 1, 1]
    assert (recorded.level(7, 5), recorded.level(1, 5)) == (2, 0)


HEAD = "update,conversation,level\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": holds no level; lines of update, conversation, level say who has which one when"),
        (HEAD, ": holds no level; lines of update, conversation, level say who has which one when"),
        ("0,0,3\n", ":1: must be a header with the columns update, conversation, level, got '0, 0, 3'"),
        (
            "update,level\n",
            ":1: must be a header with the columns update, conversation, level, got 'update, level'",
        ),
        (HEAD + "0,0,4\n", ":2: level must be an integer of 0 to 3, got '4'"),
        (HEAD + "0,0,1\n\n1,x,1\n", ":4: conversation must be an integer of 0 to 1000000000, got 'x'"),
        (HEAD + "-1,0,1\n", ":2: update must be an integer of 0 to 1000000000, got '-1'"),
        (HEAD + "99999999999,0,1\n", ":2: update must be an integer of 0 to 1000000000, got '99999999999'"),
        (HEAD + "1,2\n", ":2: must have 3 fields as the header has, got 2"),
        (HEAD + '0,"0,1\n', ":2: must be a line of CSV (unexpected end of data), got '0,\"0,1'"),
        (HEAD + "3,1,1\n3,1,2\n", ":3: conversation 1 has a level at update 3 already: leave one out"),
        ('{"update": 0\n', ":1: must be a JSON object a line, got '{\"update\": 0'"),
        (JSON + "[1]\n", ":4: must be a JSON object a line, got '[1]'"),
        (
            '{"update": 0}\n',
            ":1: must be an object with the keys update, conversation, level, got 'update'",
        ),
        ('{"update": 0, "conversation": 1, "level": true}\n', ":1: level must be an integer of 0 to 3, got True"),
        (
            '{"update": 5.5, "conversation": 1, "level": 1}\n',
            ":1: update must be an integer of 0 to 1000000000, got 5.5",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "levels.csv"
    path.write_text(text)
    with pytest.raises(WorkloadError) as refused:
        read_priorities(path)
    assert str(refused.value) == f"{path}{message}"


def test_broken_gzip_is_named(tmp_path):
    path = tmp_path / "levels.gz"
    path.write_bytes(gzip.compress(CSV.encode() * 50)[:-9])
    with pytest.raises(WorkloadError, match="the gzip data ends early"):
        read_priorities(path)


COMMON = ["--conversations", "6", "--scale", "0.3", "--runs", "fastswitch", "--frequency", "0.5", "--device-tokens"]


def test_the_command_line_takes_a_file_and_serves_by_it(run, tmp_path):
    """Two files that say the opposite serve otherwise; the JSON names the file."""
    results = []
    for name, level in (("up.csv", 0), ("down.csv", 3)):
        path = tmp_path / name
        path.write_text(HEAD + "".join(f"0,{i},{abs(level - min(i, 3))}\n" for i in range(6)))
        out = tmp_path / f"{name}.json"
        status, _, err = run(
            "simulate", "--setup", "llama8b-a10", *COMMON, "1200", "--rate", "1000", "--priority", path, "--json", out
        )
        assert (status, err) == (0, "")
        results.append(json.loads(out.read_text()))
        assert results[-1]["policy"]["priority"] == str(path)
    first, second = (result["runs"][0] for result in results)
    assert first["ttft_s"] != second["ttft_s"]


def test_a_mistake_in_it_ends_the_command_with_one_line(run, tmp_path):
    path = tmp_path / "levels.csv"
    path.write_text(HEAD + "0,0,9\n")
    for command in (["bench"], ["simulate", "--setup", "llama8b-a10"]):
        status, out, err = run(*command, "--priority", path)
        assert (status, out) == (2, "")
        assert err == f"fastswitch: {path}:2: level must be an integer of 0 to 3, got '9'\n"


def test_levels_of_conversations_that_are_not_there_are_refused(run, tmp_path):
    path = tmp_path / "levels.csv"
    path.write_text(HEAD + "0,6,1\n")
    command = ["simulate", "--setup", "llama8b-a10", *COMMON, "1200", "--rate", "1000", "--priority", path]
    assert run(*command) == (
        2,
        "",
        f"fastswitch: --priority {path} names conversation 6, there are 6, counted from 0: take it out\n",
    )

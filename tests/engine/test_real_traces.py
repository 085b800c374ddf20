"""The bench on real workloads, where the environment says where they are."""

import json
import os
import sys
from pathlib import Path

import pytest

from fastswitch.engine import cli

TRACES = Path(os.environ.get("FASTSWITCH_TRACES", "/nonexistent"))
# file |-> whether its conversations have several turns, so that requests must be switched
FILES = {
    "sharegpt_lengths/conversations_dev.jsonl.gz": True,
    "mooncake/multiturn_sessions_dev.jsonl.gz": True,
    "azure2023/conv_dev.csv.gz": False,
    "chat_text/mtbench101_dev.jsonl.gz": True,
}


@pytest.mark.long
@pytest.mark.skipif(not TRACES.is_dir(), reason="FASTSWITCH_TRACES names no folder")
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_served_with_equal_tokens(name, tmp_path, monkeypatch, capsys):
    options = ["--workload", str(TRACES / name), "--scale", "0.05", "--conversations", "24"]
    monkeypatch.setattr(sys, "argv", ["fastswitch", "bench", *options, "--json", str(tmp_path / "o.json")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "gave the same tokens" in capsys.readouterr().out
    runs = json.loads((tmp_path / "o.json").read_text())["runs"]
    assert len({run["tokens_sha256"] for run in runs}) == 1
    if FILES[name]:
        assert all(run["switches"]["swap_ins"] > 0 for run in runs if run["name"] != "recompute")


@pytest.mark.long
@pytest.mark.skipif(not TRACES.is_dir(), reason="FASTSWITCH_TRACES names no folder")
@pytest.mark.parametrize("timing", [[], ["--rate", "5"], ["--time-scale", "0.5"]])
def test_clients_that_were_recorded_come_through(timing, tmp_path, run):
    options = ["--setup", "llama8b-a10", "--clients", TRACES / "arena_clients/arena_clients.csv.gz", *timing]
    options += ["--policy", "fcfs", "--device-tokens", "8000", "--runs", "fastswitch"]
    files = ["--json", tmp_path / "o.json", "--clients-plot", tmp_path / "c.png"]
    status, out, err = run("simulate", *options, *files)
    assert (status, err) == (0, "")
    assert "27 clients; " in out
    result = json.loads((tmp_path / "o.json").read_text())
    span_s = result["workload"]["last_start_s"]
    assert span_s == pytest.approx(300, rel=0.1) if timing else span_s == pytest.approx(600, rel=0.01)
    for figures in result["runs"]:
        clients = figures["clients"]["by_client"]
        assert sorted((client["turns"] for client in clients), reverse=True)[:5] == [296, 262, 199, 120, 67]
        assert len(clients) == 27
        asked = result["workload"]["input_tokens"] + 2 * result["workload"]["output_tokens"]
        assert figures["clients"]["service"] == asked
        assert figures["clients"]["max_gap"] > 0

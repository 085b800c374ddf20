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

"""Nothing is lost: no output takes the place of an input, and a report is printed though its file cannot be written."""

from __future__ import annotations

import pytest

SIMULATE = ["simulate", "--setup", "llama8b-a10", "--conversations", "3", "--scale", "0.1", "--runs", "fastswitch"]
WORKLOAD = "req_id,client_id,arrival_s,input_tokens,output_tokens\n" + "".join(
    f"{i},c{i % 2},{i}.5,20,10\n" for i in range(4)
)
INPUTS = {
    "workload": WORKLOAD,
    "clients": WORKLOAD,
    "priority": "update,conversation,level\n0,0,1\n",
    "calibration": "{}",
}


@pytest.mark.parametrize("option", INPUTS)
@pytest.mark.parametrize("written", ["json", "decisions"])
def test_no_output_takes_the_place_of_an_input(run, tmp_path, option, written):
    path = tmp_path / "file.jsonl"
    path.write_text(INPUTS[option])
    again = tmp_path / "." / "file.jsonl"
    status, out, err = run(*SIMULATE, f"--{option}", path, f"--{written}", again)
    assert (status, out) == (2, "")
    assert err == f"fastswitch: --{option} and --{written} must be two files, got {path} twice\n"
    assert path.read_text() == INPUTS[option]


def test_a_report_is_printed_though_its_file_cannot_be_written(run):
    status, out, err = run(*SIMULATE, "--json", "/dev/full")
    assert (status, err) == (2, "fastswitch: cannot write /dev/full: No space left on device; choose another path\n")
    assert "TTFT, ms" in out

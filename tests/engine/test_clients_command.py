"""``--clients`` and ``--clients-plot`` from outside: what is served to whom, files, tables and mistakes."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from fastswitch.engine.client_report import print_clients
from fastswitch.engine.simulator import simulate_command

SETUP = ["simulate", "--setup", "llama8b-a10"]
SMALL = ["--conversations", "8", "--scale", "0.02", "--device-tokens", "100", "--block-size", "4", "--frequency", "0.5"]


@pytest.fixture
def requests(tmp_path):
    """Requests of three clients, 13 asking for most, faster than they can be served."""
    clients = [13, 2, 13, "me", 13, 2, 13, 13, "me", 13, 2, 13]
    rows = [f"{i},{client},{0.01 * i:.2f},{20 + i},{30 - i}" for i, client in enumerate(clients)]
    path = tmp_path / "requests.csv"
    path.write_text("\n".join(["req_id,client_id,arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return path


@pytest.fixture
def weights(tmp_path):
    """A table; of a workload without clients the first is dealt most."""

    def write(*rows):
        path = tmp_path / "weights.csv"
        path.write_text("\n".join(["client_id,weight", *rows]) + "\n")
        return path

    return write


def clients_of(path):
    """run |-> client_id |-> what the JSON says of it."""
    runs = json.loads(path.read_text())["runs"]
    return {run["name"]: {each["client_id"]: each for each in run["clients"]["by_client"]} for run in runs}


def turns_of(path):
    (turns,) = {tuple((name, each["turns"]) for name, each in run.items()) for run in clients_of(path).values()}
    return dict(turns)


@pytest.mark.parametrize("command", [["bench"], SETUP])
def test_a_number_of_clients(run, tmp_path, command):
    files = ["--json", tmp_path / "o.json", "--clients-plot", tmp_path / "c.png"]
    status, out, err = run(*command, *SMALL, "--conversations", "4", "--runs", "fastswitch", "--clients", "3", *files)
    assert (status, err) == (0, "")
    assert sorted(turns_of(tmp_path / "o.json")) == [0, 1, 2]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "\n3 clients; Jain of all that they asked: 0." in out
    for title in ("the 3 that asked for most", "their TTFT, ", "their TBT, ", "times that they lost the device"):
        assert f"\n{title}" in out
    result = json.loads((tmp_path / "o.json").read_text())
    for figures in result["runs"]:
        by_client = figures["clients"]["by_client"]
        assert sum(each["input_tokens"] for each in by_client) == result["workload"]["input_tokens"]
        assert sum(each["output_tokens"] for each in by_client) == result["workload"]["output_tokens"]


@pytest.mark.parametrize("option", ["--clients", "--workload"])
def test_a_workload_with_clients(run, tmp_path, requests, option):
    files = ["--json", tmp_path / "o.json"]
    pool = ["--device-tokens", "100", "--block-size", "4", "--policy", "fcfs", "--runs", "fastswitch"]
    status, _, err = run(*SETUP, *pool, option, requests, *files)
    assert (status, err) == (0, "")
    assert turns_of(tmp_path / "o.json") == {13: 7, 2: 3, "me": 2}
    result = json.loads((tmp_path / "o.json").read_text())
    assert (result["workload"]["name"], result["workload"]["last_start_s"]) == ("requests.csv", pytest.approx(0.11))
    clients = result["runs"][0]["clients"]
    assert clients["contended"] > 0.2
    assert clients["max_gap"] > 50


def test_times_of_a_workload_with_clients_can_be_scaled_or_drawn(run, tmp_path, requests):
    def last_start(*options):
        status, _, err = run(*SETUP, "--clients", requests, "--runs", "fastswitch", *options, "--json", tmp_path / "o")
        assert (status, err) == (0, "")
        assert turns_of(tmp_path / "o") == {13: 7, 2: 3, "me": 2}
        return json.loads((tmp_path / "o").read_text())["workload"]["last_start_s"]

    assert last_start("--time-scale", "10") == pytest.approx(1.1)
    assert last_start("--rate", "1") == pytest.approx(1000 * last_start("--rate", "1000"))


def test_a_number_of_clients_stands_in_for_those_recorded(run, tmp_path, requests):
    files = ["--json", tmp_path / "o.json"]
    status, _, err = run(*SETUP, "--workload", requests, "--clients", "2", "--runs", "fastswitch", *files)
    assert (status, err) == (0, "")
    assert turns_of(tmp_path / "o.json") == {0: 8, 1: 4}


def test_weights_of_recorded_clients(run, tmp_path, requests, weights):
    files = ["--json", tmp_path / "o.json"]
    table = weights("me,4", "13,0.5")
    status, out, err = run(*SETUP, "--workload", requests, "--clients", table, "--runs", "fastswitch", *files)
    assert (status, err) == (0, "")
    assert turns_of(tmp_path / "o.json") == {13: 7, 2: 3, "me": 2}
    assert json.loads((tmp_path / "o.json").read_text())["policy"]["weights"] == {"me": 4.0, "13": 0.5}
    clients = clients_of(tmp_path / "o.json")["fastswitch"]
    assert {name: client["weight"] for name, client in clients.items()} == {"me": 4, 13: 0.5, 2: 1}
    assert re.search(r"weight +0\.5 +1 +4", out)


def test_weights_name_the_clients_of_a_workload_that_records_none(run, tmp_path, weights):
    files = ["--json", tmp_path / "o.json"]
    status, _, err = run(*SETUP, *SMALL, "--clients", weights("paid,3", "free,1"), "--runs", "fastswitch", *files)
    assert (status, err) == (0, "")
    conversations = {name: client["weight"] for name, client in clients_of(tmp_path / "o.json")["fastswitch"].items()}
    assert conversations == {"paid": 3.0, "free": 1.0}


def test_without_clients_there_is_nothing_of_them(run, tmp_path):
    status, out, _ = run(*SETUP, *SMALL, "--runs", "fastswitch", "--json", tmp_path / "o.json")
    assert status == 0
    assert "clients" not in out
    assert "clients" not in json.loads((tmp_path / "o.json").read_text())["runs"][0]


@pytest.mark.long
def test_workers_send_their_records(run, monkeypatch, tmp_path):
    files = ["--json", tmp_path / "o.json", "--clients-plot", tmp_path / "c.png"]
    seen = []
    for short_tokens in (10**9, 0):  # here, and in processes
        monkeypatch.setattr(simulate_command, "SHORT_TOKENS", short_tokens)
        assert run(*SETUP, *SMALL, "--runs", "paper,recompute", "--clients", "3", *files)[::2] == (0, "")
        seen.append((clients_of(tmp_path / "o.json"), (tmp_path / "c.png").read_bytes()))
    assert seen[0] == seen[1]


def test_the_tables_fit_80_columns(run, tmp_path):
    options = ["--conversations", "14", "--scale", "0.1", "--device-tokens", "800", "--clients", "9"]
    status, _, err = run(*SETUP, *options, "--runs", "recompute,fastswitch+ahead", "--json", tmp_path / "o.json")
    assert (status, err) == (0, "")
    console = Console(width=80, record=True, file=io.StringIO())
    runs = json.loads((tmp_path / "o.json").read_text())["runs"]
    print_clients(console, runs)
    text = console.export_text()
    assert "\u2026" not in text
    for figures in runs:
        assert f"{figures['clients']['max_gap']:.0f}" in text
        busiest = figures["clients"]["by_client"][0]
        assert f"{busiest['ttft_s']['max'] * 1e3:.1f}" in text
    assert str(runs[0]["clients"]["by_client"][5]["service"]) in text
    assert str(runs[0]["clients"]["by_client"][6]["service"]) not in text.split("their TTFT")[0]


MISTAKES = {
    "no clients": (["--clients", "0"], "--clients must be a number of at least 1, or a file, got '0'"),
    "fewer": (["--clients", "-2"], "--clients must be a number of at least 1, or a file, got '-2'"),
    "an empty name": (["--clients", ""], "--clients must be a number of at least 1, or a file, got ''"),
    "far too many": (["--clients", "9" * 22], f"--clients must be a number of at least 1, or a file, got '{'9' * 22}'"),
    "more clients than conversations": (
        ["--conversations", "5", "--clients", "6"],
        ("clients must be 1 to 5, a conversation each at least, got 6; ask for fewer clients or more conversations"),
    ),
    "no file there": (["--clients", "/nowhere/c.csv"], "/nowhere/c.csv: no such file"),
    "a plot of nobody": (
        ["--clients-plot", "c.png"],
        "--clients-plot needs clients: give --clients N, or a workload that records them",
    ),
    "a plot that is no PNG": (
        ["--clients", "2", "--clients-plot", "c.jpg"],
        "--clients-plot must name a .png file, got c.jpg",
    ),
    "a plot nowhere": (
        ["--clients", "2", "--clients-plot", "/nowhere/c.png"],
        "cannot write /nowhere/c.png: No such file or directory; choose another path",
    ),
    "one file twice": (
        ["--clients", "2", "--plot", "x.png", "--clients-plot", "./x.png"],
        "--plot and --clients-plot must be two files, got x.png twice",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(run, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    options, message = MISTAKES[case]
    assert run(*SETUP, *options) == (2, "", f"fastswitch: {message}\n")


def test_two_workloads_are_refused(run, requests):
    message = (
        f"--clients {requests} has no header client_id,weight, so it is a workload of its own: leave out --workload, "
        "or give a table of weights"
    )
    assert run(*SETUP, "--workload", requests, "--clients", requests) == (2, "", f"fastswitch: {message}\n")


def test_a_workload_without_clients_is_no_clients_file(run, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("input_tokens,output_tokens\n3,4\n")
    message = f"--clients {path} records no clients: give it as --workload, with --clients N"
    assert run(*SETUP, "--clients", path) == (2, "", f"fastswitch: {message}\n")


def test_weights_of_a_stranger_are_refused(run, requests, weights):
    path = weights("me,1", "you,2")
    message = f"--clients {path} weighs client you, requests.csv has none such: it has 13, 2, me"
    assert run(*SETUP, "--workload", requests, "--clients", path) == (2, "", f"fastswitch: {message}\n")


def test_a_row_without_a_client_is_refused(run, requests):
    requests.write_text(requests.read_text().replace(",me,", ",,", 1))
    message = f"{requests}:5: client_id must name a client, got nothing"
    assert run(*SETUP, "--clients", requests) == (2, "", f"fastswitch: {message}\n")

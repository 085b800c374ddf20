"""``fastswitch reproduce`` from outside: what it prints and writes, that it goes on where it was, how it ends."""

import functools
import json
import re

import pytest

from fastswitch.engine import experiment
from fastswitch.engine.reproduce import pictures, plan, reproduce_command, run_plan
from fastswitch.engine.reproduce.case import options_of
from fastswitch.engine.reproduce.outcome import simulate
from tests.engine.reproduce import made_up

PARTS = ("finished", "report.md", "reproduce.json", "tails.png", "ablation.png", "load.png", "timeline.png")


@pytest.fixture
def reproduce(run, monkeypatch):
    """In this process, in miniature: a pool so small that requests are switched, two loads, one process."""
    monkeypatch.setattr(run_plan, "num_cores", lambda: 1)
    monkeypatch.setattr(experiment.gc, "collect", lambda: None)  # a test process has much to look through
    monkeypatch.setattr(plan, "LOADS", (0.6, 1.2))
    monkeypatch.setattr(run_plan, "fitting_scales", lambda asked: dict.fromkeys(asked.setups, 0.1))
    monkeypatch.setattr(plan, "RATE", 5.0)
    monkeypatch.setattr(plan, "_case", small(plan._case))
    monkeypatch.setattr(pictures, "options_of", lambda asked: options_of({**asked, **SMALL}))
    return functools.partial(run, "reproduce", "--setups", "llama8b-a10")


SMALL = {"device_tokens": 1000, "think": 1.0, "frequency": 0.5, "conversations": 10}


def small(make):
    def case(*args, **options):
        return make(*args, **{**SMALL, **options})

    return case


def test_the_report_the_figures_and_the_pictures(reproduce, tmp_path):
    status, out, err = reproduce("--report", tmp_path / "r", "--json", tmp_path / "f.json")
    assert (status, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == sorted(PARTS)
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures == json.loads((tmp_path / "r" / "reproduce.json").read_text())
    assert (figures["schema"], figures["simulated"]) == (1, True)
    assert figures["command"].startswith("fastswitch reproduce --setups llama8b-a10 --report")
    by_part = {}
    for result in figures["results"]:
        by_part.setdefault(result["part"], []).append(result)
        assert {"setup", "priority", "arrival", "seed", "runs", "speedup", "saturated"} <= result.keys()
        assert result["command"].startswith("fastswitch simulate --setup llama8b-a10 --conversations 10")
    assert [(r["priority"], len(r["runs"])) for r in by_part["headline"]] == [("random", 10), ("markov", 10)]
    assert [r["arrival"] for r in by_part["turns"]] == ["turn", "turn"]
    assert [r["load"] for r in by_part["load"]] == [0.6, 1.2]
    assert by_part["headline"][0]["runs"][1]["switches"]["swap_outs"] > 0, "nothing was switched"
    assert {run["name"]: run["lost"]["copied_s"] > 0 for run in by_part["headline"][0]["runs"]}["fastswitch"]

    report = (tmp_path / "r" / "report.md").read_text()
    assert "| **llama8b-a10, the paper** | 1 request/s | its own | 4.3-5.8 | 3.7-4.1 | 2.5-3.7 | 2-2.7 |" in report
    for name in re.findall(r"!\[.*\]\((.*)\)", report):
        assert (tmp_path / "r" / name).read_bytes().startswith(b"\x89PNG")
    for part in ("In short", "Step by step", "What is left between", "Load sweep: llama8b-a10, random"):
        assert f"## {part}" in report
    assert "nan" not in report
    assert "None" not in report
    assert "within 5% of `free_switch` in tokens/s, llama8b-a10, markov" in out
    assert out.splitlines()[-1] == f"report: {tmp_path / 'r' / 'report.md'}"


def test_it_goes_on_where_it_was_interrupted(reproduce, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(reproduce_command, "draw_pictures", lambda *_: [])

    def interrupted(simulation):
        if len(made) == 8:
            raise KeyboardInterrupt
        made.append(simulation)
        return simulate(simulation)

    monkeypatch.setattr(run_plan, "simulate", interrupted)
    status, _, err = reproduce("--report", tmp_path)
    assert (status, err) == (130, "fastswitch: interrupted\n")
    assert len(list((tmp_path / "finished").iterdir())) == 8

    monkeypatch.setattr(run_plan, "simulate", lambda simulation: (made.append(simulation), simulate(simulation))[1])
    assert reproduce("--report", tmp_path)[0] == 0
    assert len(made) == len(set(made)), "one was made twice"
    whole = len(made)
    first = (tmp_path / "report.md").read_text()
    assert reproduce("--report", tmp_path)[0] == 0
    assert len(made) == whole, "all were there"
    assert (tmp_path / "report.md").read_text() == first


@pytest.mark.long
def test_full_has_seeds_sensitivity_and_block_groups(reproduce, tmp_path, monkeypatch):
    for name, few in {
        "FULL_LOADS": (1.0,),
        "FULL_CONVERSATIONS": 12,
        "CALLS_US": (1.0, 20.0),
        "FREQUENCIES": (1.0,),
        "POOLS": (1.0,),
        "HOSTS": (1.0,),
        "GROWTH_BLOCKS": (4,),
        "THINKS_S": (10.0,),
        "PATTERNS": ("random",),
    }.items():
        monkeypatch.setattr(plan, name, few)
    status, out, err = reproduce("--full", "--report", tmp_path)
    assert (status, err) == (0, "")
    report = (tmp_path / "report.md").read_text()
    assert "Seeds 0, 1, 2 together:" in report
    assert "## Spread" in report
    assert "Which assumption decides, llama8b-a10, `fastswitch` over `vllm_0_3` in TTFT P95, the widest first" in report
    assert "what is assumed moves `paper` over `vllm_0_3` on llama8b-a10" in report
    assert "| dispatch, us a call | 20 |" in report
    assert "## Do block groups still pay" in report
    assert "| 2,048 KiB | PCIe 5.0, host full | 1 |" in report
    assert "within 10% of" in out
    figures = json.loads((tmp_path / "reproduce.json").read_text())
    assert [r["seed"] for r in figures["results"] if r["part"] == "headline"] == [0, 1, 2, "pooled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "gone.csv"], "--workload must be synthetic or a file, no file is 'gone.csv'"),
        (["--min-turns", "99"], "min_turns of a synthetic workload must be 1 to 62, got 99"),
        (["--conversations", "0"], "--conversations must be a number of at least 1 and at most 1e+09, got 0"),
        (["--setups", "llama8b-a10,llama8b-a10"], "--setups must name each once, got llama8b-a10,llama8b-a10"),
        (["--json", "/nowhere/f.json"], "cannot write /nowhere/f.json: No such file or directory; choose another path"),
    ],
)
def test_bad_input_is_one_line(reproduce, tmp_path, arguments, message):
    status, out, err = reproduce("--report", tmp_path, *arguments)
    assert (status, out, err) == (2, "", f"fastswitch: {message}\n")


@pytest.mark.parametrize("name", ["report.md", "tails.png", "../r/load.png"])
def test_the_figures_overwrite_nothing_of_the_report(reproduce, tmp_path, name):
    path = tmp_path / "r" / name
    status, out, err = reproduce("--report", tmp_path / "r", "--json", path)
    said = f"fastswitch: --json must be no other file of the report, got {path}: choose another name\n"
    assert (status, out, err) == (2, "", said)


def test_what_cannot_be_drawn_loses_no_figure(reproduce, tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError("no picture")

    monkeypatch.setattr(reproduce_command, "draw_pictures", refuse)
    monkeypatch.setattr(
        run_plan, "simulate", lambda simulation: made_up.outcome(simulation.run, offered_tokens_per_s=9.0)
    )
    assert reproduce("--report", tmp_path / "new", "--json", tmp_path / "new" / "mine.json")[0] == 1
    assert json.loads((tmp_path / "new" / "mine.json").read_text())["results"]
    assert json.loads((tmp_path / "new" / "reproduce.json").read_text())["results"]


def test_a_report_that_cannot_be_a_folder_is_one_line(reproduce, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = reproduce("--report", tmp_path / "file")
    assert status == 2
    assert err == f"fastswitch: cannot write in {tmp_path / 'file'}: Not a directory; choose another --report\n"


def test_the_folder_is_not_wanted_for_nothing():
    assert PARTS[0] == reproduce_command.FINISHED

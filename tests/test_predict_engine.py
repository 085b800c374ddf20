"""The prediction in miniature: its figures hang together, its fit finds what it was given, mistakes are one line."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from fastswitch.engine.simulator import ModelShape, Roofline

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {
    "--conversations": "2",
    "--scale": "0.01",
    "--device-tokens": "48",
    "--block-size": "4",
    "--runs": "recompute,+groups",
    "--repeat": "1",
}
SHAPE = ModelShape("tiny", "tiny", 8, 128, 8, 4, 32, 256, 512, 8, "float64", "the test", 1024)


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def arguments(**changed):
    options = SMALL | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [str(word) for option in options.items() for word in option]


def test_figures_hang_together(module, tmp_path, capsys):
    path = tmp_path / "out.json"
    assert module("predict_engine").main(arguments(json=path)) == 0
    out, err = capsys.readouterr()
    assert not err
    result = json.loads(path.read_text())
    assert [run["name"] for run in result["runs"]] == ["recompute", "+groups"] == list(result["calibration"]["loop_s"])
    assert result["environment"]["torch_threads"] == 1
    assert result["calibration"]["passes"] >= 2
    for run in result["runs"]:
        names = [each["figure"] for each in run["figures"]]
        assert {"ttft_s.p50", "tbt_s.p50", "tokens_per_s", "swap_outs", "drops", "stall_s"} <= set(names)
        for each in run["figures"]:
            measured, predicted = np.median(each["measured"]), np.median(each["predicted"])
            assert len(each["measured"]) == 1
            if measured:
                assert each["error"] == pytest.approx(predicted / measured - 1)
            assert each["within_spread"] == (predicted == measured)
        assert run["name"] in out
    assert {"latency", "rate"} <= set(result["summary"])
    for kind, each in result["summary"].items():
        assert 0 <= each["median_error"] <= each["worst_error"]
        assert f"{kind}: error {each['median_error']:.1%} in the median" in out


@pytest.mark.parametrize(
    "known",
    [
        Roofline(SHAPE, 9e9, 1.5e9, 8e-3, 4e-4, 4e-3, overlap=0.0, padding=1.0),
        Roofline(SHAPE, 9e9, 4e9, 8e-3, 0.0, 0.0, overlap=0.0, padding=1.0),
        Roofline(SHAPE, 9e9, np.inf, 8e-3, 1e-3, 0.0, overlap=0.0, padding=1.0),
    ],
)
def test_the_fit_finds_the_preset_that_made_the_times(module, known):
    preset = module("cpu_preset")
    batches = preset.grid(longest=273, device_tokens=640)
    found = preset.fit_roofline(SHAPE, batches, [known.seconds(batch) for batch in batches])
    for name in ("flops", "bytes_per_s", "iteration_s", "request_s", "chunk_s"):
        value, wanted = getattr(found, name), getattr(known, name)
        assert value == pytest.approx(wanted, rel=1e-6, abs=1e-9) or value > wanted * 1e6 > 1e12, name
    for batch in batches:
        assert found.seconds(batch) == pytest.approx(known.seconds(batch))


def test_no_coefficient_is_negative(module):
    terms = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    found = module("cpu_preset").least_squares(terms, np.array([3.0, 2.0, 1.0]))
    assert found[1] == 0.0
    assert 1.0 < found[0] < 2.0  # relative errors: the smallest counts most


def test_every_batch_of_the_grid_fits(module):
    grid = module("cpu_preset").grid
    for longest, tokens in ((273, 640), (12, 12), (1, 1)):
        batches = grid(longest, tokens)
        assert batches
        assert len(set(batches)) == len(batches)
        for batch in batches:
            assert sum(start + length for start, length, _ in batch) <= tokens
            assert all(start >= 0 < length for start, length, _ in batch)


def test_errors_are_relative_and_know_the_spread(module):
    compared = module("prediction").Compared("paper", "latency", "tbt_s.p50", (8.0, 10.0, 12.0), (10.0, 11.5, 12.0))
    assert (compared.error, compared.spread, compared.within) == (pytest.approx(0.15), pytest.approx(0.2), True)
    nothing = module("prediction").Compared("paper", "count", "drops", (0.0,), (3.0,))
    assert (nothing.error, nothing.spread, nothing.within) == (None, 0.0, False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"repeat": "0"}, "--repeat must be a number of at least 1 and at most 1000, got 0"),
        ({"threads": "0"}, "--threads must be a number of at least 1 and at most 1000, got 0"),
        ({"repeat": "x"}, "argument --repeat: invalid int value: 'x' (see --help)"),
        ({"runs": "best"}, "unknown run 'best': known are recompute"),
        ({"scale": "0"}, "--scale must be a number above 0"),
        ({"device_tokens": "8"}, "--device-tokens 8 holds 2 blocks of 4, the longest conversation"),
        ({"json": "missing/out.json"}, "cannot write missing/out.json: No such file or directory; choose another path"),
        ({"workload": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(module, capsys, changed, message):
    assert module("predict_engine").main(arguments(**changed)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("predict_engine: ")
    assert message in err
    assert err.count("\n") == 1

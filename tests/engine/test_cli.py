"""The command line from outside: what it prints, what it writes, how it ends."""

import json
import subprocess
import sys

import pytest
import torch

from fastswitch.engine.policy_choices import RANKERS
from fastswitch.engine.runs import RUNS

SMALL = ["--conversations", "4", "--scale", "0.02", "--device-tokens", "100", "--block-size", "4", "--frequency", "0.5"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model saved as a user's would be: weights, config, and a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocab = {"<end>": 0} | {f"word{i}": i for i in range(1, 40)} | {"[UNK]": 40}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=41,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_bench_compares_all_runs_and_writes_what_the_contract_says(run, tmp_path):
    status, out, err = run("bench", *SMALL, "--check", "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png")
    assert (status, err) == (0, "")
    assert out.startswith("link emulated: 40 us a call")
    assert "all 9 runs gave the same tokens" in out
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["schema"] == 1
    assert [entry["name"] for entry in result["runs"]] == list(RUNS)
    assert len({entry["tokens_sha256"] for entry in result["runs"]}) == 1
    assert result["workload"]["conversations"] == 4
    by_name = {entry["name"]: entry for entry in result["runs"]}
    assert by_name["recompute"]["switches"]["drops"] > 0
    assert by_name["fastswitch"]["switches"]["swap_ins"] > 0
    for entry in result["runs"]:
        assert entry["ttft_s"]["n"] == result["workload"]["turns"]
        assert entry["ttft_s"]["p90"] is None, "90 % of so few turns is no figure"
        assert set(entry["ttft_s"]) == {"n", "p50", "p90", "p95", "p99", "p99.9", "max"}
        switches = entry["switches"]
        assert switches["copies"] == switches["runs"] * (
            16 if entry["name"] in ("+groups", "+async", "paper") else 1
        ) or (entry["name"] in ("vllm_0_3", "cross_layer"))
        memory = entry["memory"]
        assert switches["bytes_out"] == switches["blocks_out"] * memory["block_bytes"]
        for tier in ("device", "host"):
            assert 0 < memory[tier]["num_owned_max"] <= memory[f"{tier}_blocks"] or entry["name"] == "recompute"
            assert memory[tier]["held_max"] <= memory[tier]["num_owned_max"]
            assert 0 <= memory[tier]["external_fragmentation_mean"] <= memory[tier]["external_fragmentation_max"] < 1
        assert set(memory["given_up"]) == {"redundant", "idle", "tails"}
        assert memory["device"]["quarantined_max"] == 0
    groups = {name: by_name[name]["memory"]["device"]["groups_per_owner_mean"] for name in ("vllm_0_3", "fastswitch")}
    assert 1 <= groups["fastswitch"] < groups["vllm_0_3"]
    assert set(result["speedup"]["fastswitch/vllm_0_3"]) == {
        "ttft_p90",
        "ttft_p95",
        "ttft_p99",
        "ttft_p99.9",
        "tbt_p99.9",
        "tbt_resident_p99.9",
        "tokens_per_s",
    }
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_bench_says_when_nothing_was_switched(run):
    status, out, _ = run(
        "bench", "--conversations", "2", "--device-tokens", "4096", "--runs", "fastswitch", "--link", "none"
    )
    assert status == 0
    assert "nothing was switched" in out
    assert out.startswith("no link")


def test_bench_reads_a_model_folder_and_a_text_workload_with_its_tokenizer(run, model_folder, tmp_path):
    rows = [
        {"row": i, "task": "T", "turns": [["word1 word2 word3", "word4 word5"], ["word6", "word7"]]} for i in range(3)
    ]
    path = tmp_path / "trace"
    path.write_text("\n".join(map(json.dumps, rows)))
    options = ["--model", model_folder, "--workload", path, "--runs", "vllm_0_3,fastswitch", "--json", tmp_path / "o"]
    status, out, err = run("bench", *options)
    assert (status, err) == (0, "")
    assert "same tokens" in out or "near tie" in out
    assert json.loads((tmp_path / "o").read_text())["workload"]["input_tokens"] == 3 * 4
    assert json.loads((tmp_path / "o").read_text())["model"]["dtype"] == "float32"


def test_generate_gives_what_the_model_itself_gives(run, model_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    status, out, err = run("generate", "--model", model_folder, "--prompt", "word1 word2", "--max-new-tokens", "8")
    assert (status, err) == (0, "")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    ids = tokenizer("word1 word2", return_tensors="pt")
    wanted = model.generate(**{k: ids[k] for k in ("input_ids", "attention_mask")}, max_new_tokens=8, do_sample=False)
    new = wanted[0][ids["input_ids"].shape[1] :]
    assert out.split() == tokenizer.decode(new, skip_special_tokens=True).split()


def test_generate_without_a_tokenizer_takes_utf8_bytes(run):
    status, out, _ = run("generate", "--model", "tiny", "--prompt", "a", "--max-new-tokens", "3")
    assert status == 0
    assert out.endswith("\n")


POLICY_UNKNOWN = f"--policy must be one of {', '.join(RANKERS)}, got 'lottery'"
MISTAKES = {
    "unknown command": (["bnech"], "No such command 'bnech'."),
    "unknown option": (["bench", "--colour", "red"], "No such option: --colour"),
    "unknown run": (["bench", "--runs", "vllm"], "unknown run 'vllm': known are " + ", ".join(RUNS)),
    "no run": (["bench", "--runs", ","], "unknown run ',': known are " + ", ".join(RUNS)),
    "unknown policy": (["bench", "--policy", "lottery"], POLICY_UNKNOWN),
    "unknown priority": (["bench", "--priority", "x"], "--priority must be random, markov, or a file, no file is 'x'"),
    "unknown packer": (["bench", "--packer", "x"], "--packer must be one of prefill-first, chunked, got 'x'"),
    "target without pieces": (
        ["bench", "--tbt-target", "50"],
        "--tbt-target cuts prompts: give --packer chunked with it, got 'prefill-first'",
    ),
    "target and budget": (
        ["bench", "--packer", "chunked", "--tbt-target", "50", "--token-budget", "64"],
        "--tbt-target gives the token budget: leave out --token-budget",
    ),
    "zero target": (
        ["bench", "--packer", "chunked", "--tbt-target", "0"],
        "--tbt-target must be a number above 0 and at most 1e+09, got 0",
    ),
    "zero budget": (
        ["bench", "--token-budget", "0"],
        "--token-budget must be a number of at least 1 and at most 1e+09, got 0",
    ),
    "unknown evictor": (["bench", "--evictor", "x"], "--evictor must be one of swap-out, recompute, cheapest, got 'x'"),
    "unknown victims": (
        ["simulate", "--setup", "llama8b-a10", "--victims", "x"],
        "--victims must be one of lowest-rank, least-bytes, got 'x'",
    ),
    "negative stay": (
        ["bench", "--min-stay", "-1"],
        "--min-stay must be a number of at least 0 and at most 1e+09, got -1",
    ),
    "horizon without shares": (
        ["bench", "--policy", "vtc", "--horizon", "4"],
        "--horizon is of --policy vtc-preemptive, got 'vtc'",
    ),
    "levels of another policy": (
        ["bench", "--policy", "mlfq", "--priority", "markov"],
        "--priority is of --policy priority, got 'mlfq'",
    ),
    "updates of another policy": (
        ["bench", "--policy", "fcfs", "--frequency", "0.1"],
        "--frequency is of --policy priority, got 'fcfs'",
    ),
    "shares of nobody": (
        ["bench", "--policy", "vtc"],
        "--policy vtc shares between clients: give --clients N, or a workload that records them",
    ),
    "a long name": (
        ["bench", "--priority", "a" * 300],
        "--priority must be random, markov, or a file, no file is 'aaaa",
    ),
    "too many levels": (
        ["bench", "--min-levels", "4"],
        "--min-levels must be below 4, the number of levels, got 4",
    ),
    "levels without levels": (
        ["bench", "--policy", "fcfs", "--min-levels", "1"],
        "--min-levels needs levels: --policy fcfs has none, take --min-stay",
    ),
    "unknown link": (["bench", "--link", "x"], "--link must be one of emulated, none, got 'x'"),
    "zero conversations": (
        ["bench", "--conversations", "0"],
        "--conversations must be a number of at least 1 and at most 1e+09, got 0",
    ),
    "negative scale": (["bench", "--scale", "-1"], "--scale must be a number above 0 and at most 1e+09, got -1"),
    "NaN scale": (["bench", "--scale", "nan"], "--scale must be a number above 0 and at most 1e+09, got nan"),
    "infinite rate": (["bench", "--rate", "inf"], "--rate must be a number above 0 and at most 1e+09, got inf"),
    "zero block size": (
        ["bench", "--block-size", "0"],
        "--block-size must be a number of at least 1 and at most 1e+09, got 0",
    ),
    "zero device tokens": (
        ["bench", "--device-tokens", "0"],
        "--device-tokens must be a number of at least 1 and at most 1e+09, got 0",
    ),
    "zero frequency": (["bench", "--frequency", "0"], "--frequency must be a number above 0 and at most 1e+09, got 0"),
    "frequency above 1": (
        ["bench", "--frequency", "2"],
        "--frequency must be at most 1 (an update at each iteration), got 2",
    ),
    "negative call cost": (
        ["bench", "--call-us", "-1"],
        "--call-us must be a number of at least 0 and at most 1e+09, got -1",
    ),
    "zero bandwidth": (["bench", "--link-gbps", "0"], "--link-gbps must be a number above 0 and at most 1e+09, got 0"),
    "not a number": (["bench", "--seed", "x"], "Invalid value for '--seed'"),
    "unknown device": (["bench", "--device", "tpu"], "--device must be one of cpu, cuda, got 'tpu'"),
    "unknown dtype": (
        ["bench", "--dtype", "int3"],
        "--dtype must be one of float64, float32, bfloat16, float16, got 'int3'",
    ),
    "unknown shapes": (["bench", "--model", "gpt9-shapes"], "unknown shapes 'gpt9-shapes': known are llama1b-shapes,"),
    "no such model": (
        ["bench", "--model", "./nowhere"],
        "--model ./nowhere does not exist: pass tiny, a folder, a hub id",
    ),
    "pool below one conversation": (
        ["bench", "--device-tokens", "64"],
        "--device-tokens 64 holds 4 blocks of 16, the longest conversation (201 tokens) needs 13: give at least 208",
    ),
    "host below one block": (["bench", "--host-tokens", "3"], "--host-tokens 3 is less than one block: give"),
    "beyond the positions": (
        ["bench", "--scale", "50"],
        "positions: lower --scale",
    ),
    "missing workload": (["bench", "--workload", "/nowhere/x.gz"], "/nowhere/x.gz"),
    "json nowhere": (["bench", "--json", "/nowhere/x.json"], "cannot write /nowhere/x.json: No such file or directory"),
    "json is a folder": (["bench", "--json", "/"], "cannot write /: Is a directory; choose another path"),
    "plot is no PNG": (["bench", "--plot", "x.jpg"], "--plot must name a .png file, got x.jpg"),
    "one file for both": (
        ["bench", "--json", "x.png", "--plot", "x.png"],
        "--json and --plot must be two files, got x.png twice",
    ),
    "a costs table over its picture": (
        ["calibrate", "--json", "x.png", "--plot", "x.png"],
        "--json and --plot must be two files, got x.png twice",
    ),
    "no link, and its cost": (
        ["bench", "--link", "none", "--call-us", "3"],
        "--link none emulates no link: leave out --call-us and --link-gbps",
    ),
    "a run twice": (["bench", "--runs", "paper,paper"], "--runs must name each once, got paper,paper"),
    "no setup of that name": (["reproduce", "--setups", "abacus"], "--setups must be MODEL-HARDWARE"),
    "a seed beyond all bounds": (
        ["bench", "--seed", "9" * 22],
        "--seed must be a number of at least 0 and at most 1e+09",
    ),
    "a pool beyond the memory": (["bench", "--device-tokens", "900000000"], "of memory, this machine has"),
    "no answer": (
        ["generate", "--model", "tiny", "--prompt", "a", "--max-new-tokens", "0"],
        "--max-new-tokens must be at",
    ),
    "no prompt": (["generate", "--model", "tiny", "--prompt", ""], "--prompt must not be empty"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(run, case):
    args, message = MISTAKES[case]
    status, out, err = run(*args)
    assert (status, out) == (2, "")
    assert err.startswith("fastswitch: ")
    assert err.count("\n") == 1, err
    assert message in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_one_line(run):
    status, _, err = run("bench", "--device", "cuda")
    assert (status, err.count("\n")) == (2, 1)
    assert "--device cuda needs a CUDA GPU and a CUDA build of torch, found none: use --device cpu" in err


def test_a_folder_that_is_no_model_is_one_line(run, tmp_path):
    status, _, err = run("bench", "--model", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "is a folder without config.json: pass a folder saved by save_pretrained" in err
    (tmp_path / "config.json").write_text("{broken")
    status, _, err = run("bench", "--model", tmp_path)
    assert (status, err.count("\n")) == (2, 1)


def test_a_hub_id_without_network_is_one_line(run, monkeypatch):
    monkeypatch.setattr("fastswitch.engine.models._hub_reachable", lambda: False)
    status, _, err = run("bench", "--model", "nobody/nothing")
    assert (status, err.count("\n")) == (2, 1)
    assert "--model nobody/nothing is neither a folder nor in the local cache, and the hub cannot be reached" in err


def test_a_request_longer_than_the_models_positions_is_one_line(run, model_folder):
    status, _, err = run("bench", "--model", model_folder, "--scale", "0.5")
    assert (status, err.count("\n")) == (2, 1)
    assert "has 64 positions: lower --scale" in err


def test_a_model_whose_layers_do_not_call_us_is_refused_in_one_line(run, tmp_path):
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    FalconForCausalLM(config).save_pretrained(tmp_path)
    status, _, err = run("bench", "--model", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "FalconForCausalLM" in err


def test_broken_workloads_are_named_with_file_and_line(run, tmp_path):
    path = tmp_path / "w"
    path.write_text("")
    assert run("bench", "--workload", path)[0] == 2
    path.write_text('{"conv_id":0,"part":0,"lead_tokens":0,"turns":[[1,2,3,4]]}\n{"conv_id":1,"part":0,"lead')
    status, _, err = run("bench", "--workload", path)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{path}:2: " in err


def test_an_interrupt_keeps_what_was_measured(run, monkeypatch, tmp_path):
    from fastswitch.engine import experiment as experiment_module

    real, served = experiment_module.Experiment.serve, []

    def interrupted(self, spec, progress):
        if served:
            raise KeyboardInterrupt
        served.append(spec.name)
        return real(self, spec, progress)

    monkeypatch.setattr(experiment_module.Experiment, "serve", interrupted)
    path = tmp_path / "o.json"
    status, out, err = run("bench", *SMALL, "--runs", "paper,fastswitch", "--json", path)
    assert status == 130
    assert err == "fastswitch: interrupted\n"
    assert "paper" in out
    assert [entry["name"] for entry in json.loads(path.read_text())["runs"]] == ["paper"]


def test_different_tokens_are_a_failure_and_all_is_written(run, monkeypatch, tmp_path):
    from fastswitch.engine import experiment as experiment_module

    real = experiment_module.Experiment.serve

    def corrupted(self, spec, progress):
        result = real(self, spec, progress)
        if spec.name == "fastswitch":
            tokens = result.turns[0, 0].generated
            tokens[0] = (tokens[0] + 1) % 512
            result.figures["tokens_sha256"] = "0" * 64
        return result

    monkeypatch.setattr(experiment_module.Experiment, "serve", corrupted)
    path = tmp_path / "o.json"
    status, out, err = run("bench", *SMALL, "--runs", "vllm_0_3,fastswitch", "--json", path)
    assert status == 1
    assert "the runs gave different tokens, and not at a near tie" in err
    assert "fastswitch differs from vllm_0_3 at conversation 0, turn 0, token 0" in out
    assert "gave the same tokens" not in out
    assert len(json.loads(path.read_text())["runs"]) == 2


def test_a_reader_that_has_seen_enough_costs_nothing(tmp_path):
    path = tmp_path / "o.json"
    command = [sys.executable, "-m", "fastswitch.engine.cli", "bench", *SMALL, "--runs", "fastswitch", "--json", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        bench.stdout.close()
        assert bench.stderr.read() == ""
    assert bench.returncode == 0
    assert [entry["name"] for entry in json.loads(path.read_text())["runs"]] == ["fastswitch"]


def test_a_failing_copy_is_counted_and_changes_no_token(run, monkeypatch, tmp_path):
    from fastswitch.engine.copier import Copier

    real, failed = Copier.copy, []

    def sometimes(self, submission, stream):
        if submission.job.job_id in (1, 4):
            failed.append(submission.job.job_id)
            raise OSError("the copy engine is on fire")
        return real(self, submission, stream)

    monkeypatch.setattr(Copier, "copy", sometimes)
    status, out, _ = run(
        "bench", *SMALL, "--check", "--runs", "recompute,vllm_0_3,fastswitch", "--json", tmp_path / "o"
    )
    assert status == 0
    assert failed
    assert "all 3 runs gave the same tokens" in out
    runs = json.loads((tmp_path / "o").read_text())["runs"]
    assert sum(entry["switches"]["failed"] for entry in runs) == len(failed)
    assert "copies failed; whoever needed one was recomputed" in out


def test_calibrate_prints_what_copies_cost_and_which_is_cheapest(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status, out, err = run("calibrate", "--device", "cpu", "--json", tmp_path / "c.json", "--plot", tmp_path / "c.png")
    assert (status, err) == (0, "")
    for way in ("per_run", "batched", "zero_copy", "staged"):
        assert way in out
    assert "the cheapest way, by copies in a job" in out
    result = json.loads((tmp_path / "c.json").read_text())
    assert set(result["ways"]) == {"device_to_host", "host_to_device"}
    assert result["environment"]["gpu"] is None
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "cache" / "fastswitch").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "tpu"], "--device must be cpu or cuda, got 'tpu'"),
        (["--plot", "costs.pdf"], "--plot must name a .png file, got costs.pdf"),
        (["--json", "/no/such/folder/c.json"], "cannot write /no/such/folder/c.json: No such file or directory"),
    ],
)
def test_calibrate_refuses_in_one_line(run, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("calibrate", *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"fastswitch: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())

"""Recorded lengths are shortened until the longest conversation fits, and no further."""

from fastswitch.engine.reproduce.positions import fitting_scales
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.workloads import read_workload, select


def scales(tmp_path, rows, **options):
    trace = tmp_path / "trace.csv"
    trace.write_text("input_tokens,output_tokens\n" + "".join(f"{asked},{answer}\n" for asked, answer in rows))
    return trace, fitting_scales(ReproduceOptions(command="x", report=tmp_path, workload=str(trace), **options))


def test_what_fits_stays_as_it_is(tmp_path):
    assert scales(tmp_path, [(8000, 192), (5, 5)])[1] == {"llama8b-a10": None, "qwen32b-a100": None}


def test_the_longest_just_fits_the_positions_or_the_pool(tmp_path):
    trace, found = scales(tmp_path, [(100_000, 20_000), (50, 50)])
    for setup, room in {"llama8b-a10": 8192, "qwen32b-a100": 25_000}.items():
        longest = select(read_workload(trace), scale=found[setup], seed=0).max_context
        assert 0.97 * room < longest <= room


def test_a_message_keeps_a_token_so_many_need_a_smaller_factor(tmp_path):
    trace = tmp_path / "sessions.jsonl"
    requests = ",".join(f'{{"t": {i}, "in": {10 * i + 9}, "out": 1}}' for i in range(4000))
    trace.write_text(f'{{"session_id": 1, "parent": null, "requests": [{requests}]}}\n')
    asked = ReproduceOptions(command="x", report=tmp_path, workload=str(trace), setups=("llama8b-a10",))
    scale = fitting_scales(asked)["llama8b-a10"]
    assert select(read_workload(trace), scale=scale, seed=0).max_context <= 8192


def test_drawn_conversations_fit(tmp_path):
    asked = ReproduceOptions(command="x", report=tmp_path)
    assert fitting_scales(asked) == {"llama8b-a10": None, "qwen32b-a100": None}

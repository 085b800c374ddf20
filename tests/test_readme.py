"""The README is true: its Python runs, and what it names exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is measured here is not kept


def run(snippet):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102
    return printed.getvalue()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(snippet):
    run(snippet)


def test_the_snippets_show_what_the_text_says():
    assert run(SNIPPETS[0]) == "PagedAllocator 10 groups\nBlockGroupAllocator 2 groups\n"
    assert run(SNIPPETS[1]) == "25 2\n"


def test_every_make_target_and_folder_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", TEXT)) - {"sure"}:
        assert f"\n{target}:" in makefile, target
    for folder in re.findall(r"^    ([a-z/]+/) ", TEXT, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_the_table_of_runs_is_the_code():
    from fastswitch.engine.runs import RUNS

    for table in TEXT.split("\n\n"):
        if table.startswith("| run |"):
            rows = re.findall(r"^\| `([a-z_0-9+]+)` \|", table, re.MULTILINE)
            assert rows == list(RUNS)


def test_the_table_of_ways_is_the_code():
    from fastswitch.kernels import TRANSFERS

    (table,) = (table for table in TEXT.split("\n\n") if table.startswith("| way |"))
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == list(TRANSFERS)

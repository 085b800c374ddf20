"""The README and the pages that it points to are true: their Python runs, and what they name exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/parts.md", "docs/command_line.md", "docs/figures.md", "docs/tour.md")
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
SNIPPETS = [
    pytest.param(page, code, id=f"{Path(page).stem}-{number}")
    for page, text in TEXTS.items()
    if page != "docs/tour.md"  # its parts belong together: tests/test_docs.py
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]
LONGEST = 20  # lines of a README's example


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is measured here is not kept


def run(snippet, page="README.md"):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, page, "exec"), {})  # noqa: S102
    return printed.getvalue()


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_a_snippet_runs(page, code):
    run(code, page)


def snippets(page):
    return [param.values[1] for param in SNIPPETS if param.values[0] == page]


def test_the_snippets_show_what_the_text_says():
    assert run(snippets("README.md")[0]) == "25 2\n"
    assert run(snippets("README.md")[2]) == "['greedy', 'modest']\n['modest', 'greedy'] True\n"
    assert run(snippets("docs/parts.md")[0]) == "PagedAllocator 10 groups\nBlockGroupAllocator 2 groups\n"
    assert run(snippets("docs/parts.md")[1]) == "25 2\n"


def test_the_readme_has_a_short_example_of_each_folder():
    for folder, code in zip(("memory", "kernels", "sched", "engine"), snippets("README.md"), strict=True):
        assert f"from fastswitch.{folder} import" in code
        assert len(code.splitlines()) <= LONGEST


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_what_is_there(page):
    prose = re.sub(r"```.*?```|`[^`\n]+`", "", TEXTS[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)", prose):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, "docs/your_own_policy.md", "docs/design.md"])
def test_a_link_into_a_page_finds_its_heading(page):
    path = ROOT / page
    prose = re.sub(r"```.*?```|`[^`\n]+`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", prose):
        if not target.startswith("https://"):
            assert anchor in anchors(path.parent / target if target else path), f"{target}#{anchor}"


def anchors(path):
    """As GitHub makes them of headings: small letters, hyphens for blanks, no punctuation."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_make_target_and_folder_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)make ([a-z]+)", "\n".join(TEXTS.values()), re.MULTILINE)
    assert {"demo", "test", "gpu"} <= set(named)
    for target in named:
        assert f"\n{target}:" in makefile, target
    for folder in re.findall(r"^    ([a-z/]+/) ", TEXTS["README.md"], re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_file_that_is_named_is_there(page):
    named = re.findall(r"`((?:fastswitch|tests|benchmarks|docs|examples)/[\w/.]+\.(?:py|md|json|png))`", TEXTS[page])
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_the_table_of_runs_is_the_code():
    from fastswitch.engine.runs import RUNS

    tables = [table for table in TEXTS["README.md"].split("\n\n") if table.startswith("| run |")]
    assert tables
    for table in tables:
        assert re.findall(r"^\| `([a-z_0-9+]+)` \|", table, re.MULTILINE) == list(RUNS)


def test_the_table_of_ways_is_the_code():
    from fastswitch.kernels import TRANSFERS

    (table,) = (table for table in TEXTS["docs/parts.md"].split("\n\n") if table.startswith("| way |"))
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == list(TRANSFERS)

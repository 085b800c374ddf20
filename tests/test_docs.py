"""The pages in docs/ that teach are true: their code runs from top to bottom and prints what is shown."""

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PARTS = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["your_own_policy.md", "tour.md"])
def test_a_page_runs_and_prints_what_it_shows(page):
    names, printed, shown = {}, io.StringIO(), []
    for kind, text in PARTS.findall((DOCS / page).read_text(encoding="utf-8")):
        if kind == "text":
            shown.append(text)
            continue
        with contextlib.redirect_stdout(printed):
            exec(compile(text, page, "exec"), names)  # noqa: S102
    assert shown
    assert printed.getvalue() == "".join(shown)


def test_the_policy_has_no_more_lines_than_its_page_says():
    page = (DOCS / "your_own_policy.md").read_text(encoding="utf-8")
    lines = next(text for kind, text in PARTS.findall(page) if kind == "python").splitlines()
    code = [line for line in lines if line.strip()]
    assert page.startswith(f"# A policy in {20} lines")
    assert len(code) <= 20

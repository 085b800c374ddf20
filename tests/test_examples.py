"""Each example is short, stands in the README, and prints what its docstring shows."""

import ast
import doctest
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def shown(example):
    """The command that the docstring ends with, and what it says comes out; ``...`` stands for any lines."""
    docstring = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8")))
    command, _, output = docstring.partition("\n    $ ")[2].partition("\n")
    return command, textwrap.dedent(output) + "\n"


def check_output(example, printed):
    _, wanted = shown(example)
    assert doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS), printed


@each_example
def test_it_prints_what_its_docstring_shows(example, capsys):
    runpy.run_path(str(example), run_name="__main__")
    check_output(example, capsys.readouterr().out)


@each_example
def test_its_docstring_says_how_to_run_it_and_what_comes_out_in_the_end(example):
    command, output = shown(example)
    assert command == f"PYTHONPATH=. python examples/{example.name}"
    assert output.splitlines()[-1] not in {"", "..."}


@each_example
def test_it_has_fewer_than_80_lines(example):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 80


def test_it_runs_from_a_checkout_as_it_says():
    example = ROOT / "examples" / "allocator_in_your_engine.py"  # the one that starts fastest
    command = [sys.executable, *shown(example)[0].split()[2:]]
    environment = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_output(example, done.stdout)


def test_the_readme_lists_them_all():
    (table,) = (table for table in README.split("\n\n") if table.startswith("| | shows |"))
    assert sorted(re.findall(r"^\| `(\w+\.py)` \|", table, re.MULTILINE)) == [each.name for each in EXAMPLES]

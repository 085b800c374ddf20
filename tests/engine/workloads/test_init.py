import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

from fastswitch.engine import workloads

MODULES = [f"{workloads.__name__}.{module.name}" for module in pkgutil.iter_modules(workloads.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [workloads.__name__, *MODULES])
def test_all_is_sorted_and_real(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert all(hasattr(module, each) for each in module.__all__)
    # constants, then classes, then functions, each in order of name
    assert module.__all__ == sorted(module.__all__, key=lambda each: (not each.isupper(), each[0].islower(), each))


def test_needs_neither_transformers_nor_pictures():
    program = (
        "import sys, fastswitch.engine.workloads; "
        "sys.exit(any(heavy in sys.modules for heavy in ('transformers', 'typer', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

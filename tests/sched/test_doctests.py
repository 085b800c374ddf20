"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

from fastswitch import sched

MODULES = [f"{sched.__name__}.{module.name}" for module in pkgutil.iter_modules(sched.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0

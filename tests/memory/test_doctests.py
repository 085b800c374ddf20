"""The examples in the docstrings of `fastswitch.memory` run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastswitch.memory

# The pool's is the one module that needs torch; it has no doctest.
MODULES = sorted(module.name for module in pkgutil.iter_modules(fastswitch.memory.__path__) if module.name != "pool")


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(f"fastswitch.memory.{name}"))
    assert not result.failed


@pytest.mark.parametrize(
    "name", ["block_group", "coalesce", "cut_runs", "free_runs", "holding", "layout", "paged", "pieces"]
)
def test_these_have_examples(name):
    assert doctest.testmod(importlib.import_module(f"fastswitch.memory.{name}")).attempted

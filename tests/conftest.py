"""Profiles and skips for all tests, and how a test gets at the scripts of ``benchmarks/``."""

import importlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples everywhere and always; a failure on one machine is one on all.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items):
    for item in items:
        # Not its keywords: they hold the names of folders too, and a checkout may lie in one called gpu.
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu():
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def load(monkeypatch):
    """Imports a script of ``benchmarks/`` by its name."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    return importlib.import_module


@pytest.fixture
def in_this_process(monkeypatch):
    """Has a module do here what it would give to other processes."""

    class Here:
        def __init__(self, _workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def map(self, function, each):
            return map(function, each)

    return lambda module: monkeypatch.setattr(module, "ProcessPoolExecutor", Here)

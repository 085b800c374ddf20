"""What an experiment's runs are served on: a model on this machine, or a simulated one.

Ours. The experiment knows neither; it asks for an engine for each run, and for the facts that its JSON states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from fastswitch.engine.engine import Engine
from fastswitch.engine.runs import RunSpec
from fastswitch.engine.spec import EngineSpec
from fastswitch.engine.workloads import Workload

__all__ = ["Testbed"]


class Testbed(Protocol):
    """Makes engines."""

    @property
    def spec(self) -> EngineSpec:
        """What the runs share."""

    def engine(self, run: RunSpec) -> AbstractContextManager[Engine]:
        """A fresh engine for one run; what it holds ends with the context."""

    def prompt_tokens(self, workload: Workload, conversation: int, turn: int) -> Sequence[int]:
        """The new token ids of a turn."""

    def work_s(self, workload: Workload) -> float:
        """Seconds that the workload's tokens would take: a prompt at a time, then decodes by eight."""

    def environment(self) -> Mapping[str, Any]:
        """The machine and the versions: all of the JSON that may differ between two runs of one command."""

    def as_json(self) -> Mapping[str, Any]:
        """The facts of the JSON that are neither workload nor figures."""

    def head(self) -> str:
        """The facts for a person, in one line."""

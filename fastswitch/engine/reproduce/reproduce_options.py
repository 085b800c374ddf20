"""The options of ``fastswitch reproduce``, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastswitch.engine.option_limits import check_number
from fastswitch.engine.simulator.setup import find_setup
from fastswitch.engine.usage import UsageError, check_distinct

__all__ = ["REPORT", "ReproduceOptions"]

REPORT = "report.md"
WRITTEN = (REPORT, "tails.png", "ablation.png", "load.png", "timeline.png")  # besides the figures


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """As on the command line.

    Attributes:
        command: as typed.
        full: with sensitivity, and the headline at full length with three seeds.
        workload: ``synthetic``, or a trace.
        conversations: of every case but the full headline.
        min_turns: of a conversation; None: 3 of synthetic ones, of recorded ones any.
        setups: names.
        seed: of everything that is drawn; the full headline takes the two that follow it, too.
        report: the folder of the report; finished simulations are kept in it.
        json: the figures, once more, where asked.

    Raises:
        UsageError: a value is of no use, in one line.
    """

    command: str
    report: Path
    full: bool = False
    workload: str = "synthetic"
    conversations: int = 200
    min_turns: int | None = None
    setups: tuple[str, ...] = ("llama8b-a10", "qwen32b-a100")
    seed: int = 0
    json: Path | None = None

    def __post_init__(self) -> None:
        for name in ("conversations", "min_turns", "seed"):
            check_number(name, getattr(self, name))
        if not self.setups:
            raise UsageError("--setups must name at least one, such as llama8b-a10")
        for name in self.setups:
            find_setup(name, option="setups")
        if len(set(self.setups)) < len(self.setups):
            raise UsageError(f"--setups must name each once, got {','.join(self.setups)}")
        if self.workload != "synthetic" and not os.path.isfile(self.workload):  # noqa: PTH113 - for a name of any length
            raise UsageError(f"--workload must be synthetic or a file, no file is {self.workload!r}")
        inputs = {} if self.workload == "synthetic" else {"workload": Path(self.workload)}
        check_distinct({"json": self.json}, inputs)
        if self.json is not None and self.json.resolve() in {(self.report / name).resolve() for name in WRITTEN}:
            raise UsageError(f"--json must be no other file of the report, got {self.json}: choose another name")

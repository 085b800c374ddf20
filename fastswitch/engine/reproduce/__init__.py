"""The paper's evaluation, simulated: which cases, their figures, and a report beside the paper's.

`plan` says what is simulated, `run_plan` does it, `report` writes it down; ``fastswitch reproduce`` is all three.
"""

from __future__ import annotations

from fastswitch.engine.reproduce.case import Case, Simulation
from fastswitch.engine.reproduce.evaluation import Evaluation
from fastswitch.engine.reproduce.finished import Finished
from fastswitch.engine.reproduce.outcome import Outcome, simulate
from fastswitch.engine.reproduce.published import PUBLISHED, PublishedRange
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.reproduce.result import Result
from fastswitch.engine.reproduce.run_plan import evaluate

__all__ = [
    "PUBLISHED",
    "Case",
    "Evaluation",
    "Finished",
    "Outcome",
    "PublishedRange",
    "ReproduceOptions",
    "Result",
    "Simulation",
    "evaluate",
    "simulate",
]

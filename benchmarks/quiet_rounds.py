"""Rounds of several sides in turn, of which those count in which the machine was quiet; and their medians.

A figure is a ratio, or several things measured one right after the other. Every side has its turn in every round, in
alternating order, so that what slows the machine for a while meets them all. Where no round was quiet there is no
figure.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from command import Parser
from others import others_share, read

from fastswitch.engine.usage import UsageError

__all__ = ["MOST_OTHERS", "MOST_TRIES", "Samples", "add_options", "check_options", "measure_in_turn"]

MOST_OTHERS = 0.05  # share of all cores: with more the machine is not quiet
MOST_TRIES = 2  # times the rounds that are wanted
MOST_ROUNDS = 1000  # what is beyond is a slip

Figures = Mapping[str, float | None]


@dataclass(slots=True)
class Samples:
    """What one side gave.

    Attributes:
        most_others: share of the cores that others may take in a round that counts.
        quiet: figures of each round that counts.
        others: share that others took, of every round.
    """

    most_others: float
    quiet: list[Figures] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def enter(self, figures: Figures, others: float) -> None:
        """Keep a round's figures if it was quiet."""
        self.others.append(others)
        if others <= self.most_others:
            self.quiet.append(figures)

    def median(self, name: str) -> float | None:
        """Over the quiet rounds; None without one, or where one of them has none."""
        values = [figures[name] for figures in self.quiet]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known and len(known) == len(values) else None

    def as_json(self) -> dict[str, Any]:
        """Medians, and what they are of."""
        names = self.quiet[0] if self.quiet else ()
        return {
            "median": {name: self.median(name) for name in names} or None,
            "quiet_rounds": len(self.quiet),
            "others": self.others,
            "rounds": [dict(figures) for figures in self.quiet],
        }


def measure_in_turn(
    sides: Mapping[str, Callable[[], Figures]], rounds: int, most_others: float = MOST_OTHERS
) -> dict[str, Samples]:
    """Measure the sides in turn, until each has as many quiet rounds, or all have had twice as many.

    Args:
        sides: name |-> does its work once and gives its figures.
        rounds: quiet ones wanted.
        most_others: share of the cores that others may take in a quiet one.

    Raises:
        UsageError: where nothing tells whether it is quiet.
    """
    found = {name: Samples(most_others) for name in sides}
    for number in range(MOST_TRIES * rounds):
        names = [name for name in sides if len(found[name].quiet) < rounds]
        for name in reversed(names) if number % 2 else names:
            before = read()
            figures = sides[name]()
            found[name].enter(figures, others_share(before, read(), os.cpu_count() or 1))
    return found


def add_options(parser: Parser, rounds: int) -> None:
    """Add ``--rounds``, with this default, and ``--others``."""
    parser.add_argument("--rounds", type=int, default=rounds, help="quiet ones; at most twice as many are made")
    parser.add_argument(
        "--others", type=float, default=MOST_OTHERS, help="share of the cores that others may take in a quiet round"
    )


def check_options(rounds: int, others: float) -> None:
    """Refuse what is of no use.

    Raises:
        UsageError: in one line.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"--rounds must be a number of at least 1 and at most {MOST_ROUNDS}, got {rounds}")
    if not 0 <= others <= 1:
        raise UsageError(f"--others is a share, at least 0 and at most 1, got {others:g}")

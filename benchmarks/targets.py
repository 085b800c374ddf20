"""A figure beside the bound that it should keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

__all__ = ["Target", "print_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound; None as the figure where nothing was measured.

    Attributes:
        what: is bounded.
        figure: measured.
        least, most: the bound; one of them.
    """

    what: str
    figure: float | None
    least: float | None = None
    most: float | None = None

    @property
    def word(self) -> str:
        """Reached, missed, or not measured."""
        if self.figure is None:
            return "not measured"
        above = self.least is None or self.figure >= self.least
        return "reached" if above and (self.most is None or self.figure <= self.most) else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """With the verdict."""
        return {**asdict(self), "verdict": self.word}


def print_targets(targets: Iterable[Target], console: Console) -> None:
    """A line each."""
    for each in targets:
        figure = "-" if each.figure is None else f"{each.figure:.4f}"
        bound = f"at most {each.most:g}" if each.least is None else f"at least {each.least:g}"
        console.print(f"{each.word}: {each.what}: {figure} ({bound})", highlight=False)

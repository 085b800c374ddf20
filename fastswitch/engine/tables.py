"""One table on a console, as all of the reports have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_table"]


def print_table(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, first: str = "run"
) -> None:
    """Print a title, a head and rows; ``first`` heads the first column, ``heads`` the others, which are numbers."""
    from rich import box
    from rich.table import Table

    # A table's own title is broken at the table's width; a line before it is not.
    console.print(f"\n{title}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)

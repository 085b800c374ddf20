"""A conversation's tokens, as the pieces they came in: prompts and answers, in turns.

Ours. Nothing is copied: a prompt is the sequence that was submitted, an answer the list that its turn grows, so a
conversation costs no memory beyond its turns' own, and a prompt that is a ``range`` none at all.
Invariants:
1. Only the last piece grows; nothing that was added ever changes.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TokenHistory"]


class TokenHistory:
    """Tokens by position.

    >>> answer = []
    >>> history = TokenHistory()
    >>> history.add(range(10, 15)); history.add(answer)
    >>> answer.append(7)
    >>> len(history), history.span(3, 6), history.span(5, 6)
    (6, [13, 14, 7], [7])
    """

    __slots__ = ("_pieces", "_starts")

    def __init__(self) -> None:
        self._pieces: list[Sequence[int]] = []
        self._starts: list[int] = []  # position of each piece's first token

    def __len__(self) -> int:
        return self._starts[-1] + len(self._pieces[-1]) if self._pieces else 0

    def add(self, piece: Sequence[int]) -> None:
        """Go on with ``piece``, which is shared, not copied; the one before it may not grow from now on."""
        self._starts.append(len(self))
        self._pieces.append(piece)

    def span(self, start: int, end: int) -> list[int]:
        """A new list of the tokens at positions ``[start, end)``, cut to those that there are.

        In O(end - start + pieces behind ``start``), so the newest tokens are the cheapest.
        """
        parts: list[Sequence[int]] = []
        for first, piece in zip(reversed(self._starts), reversed(self._pieces), strict=True):
            if first < end:
                parts.append(piece[max(0, start - first) : end - first])
            if first <= start:
                break
        return [token for part in reversed(parts) for token in part]

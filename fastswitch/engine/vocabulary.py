"""Token ids that a caller gives are those of the model's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_vocabulary"]


def check_vocabulary(tokens: Sequence[int], vocab_size: int) -> None:
    """Refuse token ids that the model does not know; of a ``range`` only its ends are looked at.

    Raises:
        ValueError: if one is not in ``[0, vocab_size)``; names the first.
    """
    extremes = (tokens[:1], tokens[-1:]) if isinstance(tokens, range) else (tokens,)
    if all(min(part) >= 0 and max(part) < vocab_size for part in extremes if part):
        return
    outside = next(token for token in tokens if not 0 <= token < vocab_size)
    raise ValueError(f"token ids must be in [0, {vocab_size}), got {outside}")

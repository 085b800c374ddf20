"""The token budget of an iteration, from how long a token may take.

Source: Sarathi-Serve (Agrawal et al., OSDI 2024), section 4.3: profile batches of different numbers of tokens once, and
        take the largest that stays within the target of the time between tokens. The search is ours.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

__all__ = ["token_budget_for"]


def token_budget_for(target_s: float, seconds: Callable[[int], float], *, least: int = 1, most: int = 8192) -> int:
    """The largest budget whose iteration stays within ``target_s``.

    Doubles the budget until its iteration is too long, then halves what lies between: 2 log2(budget) questions, none
    beyond twice the budget, so ``seconds`` may measure. It relies on more tokens never taking less time; where they do,
    the budget found is one that was asked about and stays within.

    >>> token_budget_for(0.050, lambda num_tokens: 0.010 + 0.0001 * num_tokens)
    400

    Args:
        target_s: seconds that an iteration may take.
        seconds: num_tokens |-> seconds of an iteration with so many.
        least: the smallest budget of use, at least 1.
        most: the largest, at least ``least``.

    Raises:
        ValueError: if an iteration of ``least`` tokens takes too long already, or the bounds hold no budget.
    """
    if not 1 <= least <= most:
        raise ValueError(f"least and most must be 1 <= least <= most, got {least} and {most}")
    shortest_s = seconds(least)
    if not shortest_s <= target_s:
        raise ValueError(
            f"an iteration of {least} tokens takes {shortest_s:.4g} s, more than the target of {target_s:.4g} s: "
            "give a longer one"
        )
    within = least
    while within < most:
        beyond = min(most, 2 * within)
        if not seconds(beyond) <= target_s:
            return within + bisect.bisect_right(range(within + 1, beyond), target_s, key=seconds)
        within = beyond
    return within

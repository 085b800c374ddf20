"""How much an engine serves while somebody waits for room: what it can do, as it is loaded.

Ours. An engine whose device pool holds all that is asked of it serves what arrives; one in which somebody waits serves
what it can. So the tokens a second of that time, beside those that are asked for in a second, say whether a queue grows
for as long as any arrive. A run of its own in overload would say less: who copies badly does worse the more wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastswitch.engine.engine import Engine
from fastswitch.engine.request import Turn

__all__ = ["Backlog"]


class Backlog:
    """The times in which somebody waited for device room.

    Args:
        engine: to be watched.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before_s = engine.clock.now()
        self._edges: list[float] = []  # starts and ends, in turn

    def sample(self) -> None:
        """Call after each step: it was so from the last call to now."""
        now = self._engine.clock.now()
        if self._engine.leaves_waiting and now > self._before_s:
            if self._edges and self._edges[-1] == self._before_s:
                self._edges[-1] = now
            else:
                self._edges += [self._before_s, now]
        self._before_s = now

    def figures(self, turns: Iterable[Turn]) -> dict[str, Any]:
        """``seconds`` of backlog, and ``tokens_per_s`` that were generated meanwhile; None where there was none."""
        starts, ends = self._edges[::2], self._edges[1::2]
        seconds = sum(ends) - sum(starts)
        times = np.sort(np.concatenate([np.empty(0), *(np.asarray(turn.token_times, np.float64) for turn in turns)]))
        num_tokens = _count_up_to(times, ends) - _count_up_to(times, starts)
        return {"seconds": seconds, "tokens_per_s": num_tokens / seconds if seconds else None}


def _count_up_to(times: np.ndarray, moments: Sequence[float]) -> int:
    return int(np.searchsorted(times, moments, side="right").sum())

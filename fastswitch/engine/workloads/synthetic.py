"""Multi-turn conversations drawn from published statistics of ShareGPT; no trace file is needed.

Source of the figures: 793 entries (2,889 turns) of ShareGPT_V3_unfiltered_cleaned_split, a random sample by GitHub
``Marugannwg/ShareGPT92k_user_linguistic_mining`` at commit 8186064 (MIT), tokens counted with GPT-2's encoding.
The data set's authors split conversations near 2,048 tokens, so long ones are counted as several.

| | mean | p10 | p50 | p90 | p99 | max |
|---|---:|---:|---:|---:|---:|---:|
| turns (73.6 % have two or more, 57.4 % three or more) | 3.64 | 1 | 3 | 7 | 14 | 62 |
| user message, tokens | 86 | 5 | 18 | 144 | 1,409 | 3,503 |
| answer, tokens | 326 | 38 | 271 | 682 | 1,252 | 3,535 |
| whole conversation, tokens | 1,684 | 329 | 1,888 | 2,770 | 4,016 | 6,261 |

Ours: how to draw from a row. A uniform number picks a point between two percentiles, and the logarithm of the value
is interpolated; between percentiles the curve is bent by one exponent a row, so that the mean is right too. Lengths
are drawn one by one; the messages of a conversation that would exceed 6,261 tokens are shortened alike.
Over 20,000 conversations the first three rows' means come out within 5 % and their percentiles within 12 %, the 10th
within 2 tokens or 25 %. The last row is used for its maximum alone, and ours differ from it: in the data long
conversations have shorter messages (ours: p50 1,140, p90 3,540), and 181 tokens on average stand before an entry's
first message, which are not drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.workloads.conversation import Conversation, Turn, Workload
from fastswitch.engine.workloads.draws import Purpose, stream
from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["MAX_CONTEXT", "MAX_TURNS", "synthetic_workload"]

MAX_CONTEXT = 6261  # tokens of the data's longest conversation
MAX_TURNS = 62  # turns of the data's longest conversation


@dataclass(frozen=True, slots=True)
class _Quantiles:
    shares: tuple[float, ...]  # rising from 0 to 1
    values: tuple[float, ...]  # the value below which that share lies
    bend: float  # above 1: more values near the lower percentile of each pair

    def draw(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        shares, logs = np.array(self.shares), np.log(self.values)
        piece = np.clip(np.searchsorted(shares, uniform, side="right") - 1, 0, len(shares) - 2)
        way = (uniform - shares[piece]) / (shares[piece + 1] - shares[piece])
        values: NDArray[np.float64] = np.exp(logs[piece] + (logs[piece + 1] - logs[piece]) * way**self.bend)
        return values


# A count is the next whole number above a draw, so a percentile that is the count n lies at n - 0.5.
_TURNS = _Quantiles((0, 0.264, 0.426, 0.5, 0.75, 0.9, 0.99, 1), (0.5, 1, 2, 2.5, 4.5, 6.5, 13.5, MAX_TURNS), bend=1.4)
_USER_TOKENS = _Quantiles((0, 0.1, 0.5, 0.9, 0.99, 1), (1, 5, 18, 144, 1409, 3503), bend=1.3)
_ANSWER_TOKENS = _Quantiles((0, 0.1, 0.5, 0.9, 0.99, 1), (1, 38, 271, 682, 1252, 3535), bend=0.85)


def synthetic_workload(*, seed: int = 0, conversations: int = 1000, min_turns: int = 1) -> Workload:
    """Draw ``conversations`` conversations of at least ``min_turns`` turns; a thousand take about 50 ms.

    Conversation i depends on (seed, i, min_turns) alone: a smaller workload is the beginning of a larger one.
    No arrivals and no gaps.

    Raises:
        WorkloadError: if ``conversations`` is below 1, or ``min_turns`` is not 1 to `MAX_TURNS`.

    >>> workload = synthetic_workload(seed=0, conversations=24, min_turns=3)
    >>> len(workload), min(len(conversation.turns) for conversation in workload.conversations)
    (24, 3)
    """
    if conversations < 1:
        raise WorkloadError(f"conversations must be at least 1, got {conversations}")
    if not 1 <= min_turns <= MAX_TURNS:
        raise WorkloadError(f"min_turns of a synthetic workload must be 1 to {MAX_TURNS}, got {min_turns}")
    least = _share_below(min_turns)
    drawn = tuple(_conversation(index, stream(seed, Purpose.LENGTHS, index), least) for index in range(conversations))
    return Workload("synthetic", seed, drawn)


def _share_below(num_turns: int) -> float:
    # bisection over the rising draw: the share of conversations with fewer than num_turns turns
    low, high = 0.0, 1.0
    for _ in range(52):
        middle = (low + high) / 2
        if _num_turns(middle) < num_turns:
            low = middle
        else:
            high = middle
    return high if num_turns > 1 else 0.0


def _num_turns(uniform: float) -> int:
    return int(np.ceil(_TURNS.draw(np.array([uniform]))[0]))


def _conversation(index: int, rng: np.random.Generator, least: float) -> Conversation:
    num_turns = _num_turns(least + (1 - least) * rng.random())
    uniform = rng.random((num_turns, 2))
    lengths = np.column_stack([_USER_TOKENS.draw(uniform[:, 0]), _ANSWER_TOKENS.draw(uniform[:, 1])])
    tokens = _fitted(np.maximum(1, np.rint(lengths)).astype(np.int64))
    return Conversation(index, tuple(Turn(asked, answer) for asked, answer in tokens.tolist()))


def _fitted(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    # every message keeps its first token, what is above it shrinks by one factor
    room, above = MAX_CONTEXT - tokens.size, int(tokens.sum()) - tokens.size
    return tokens if above <= room else 1 + (tokens - 1) * room // above

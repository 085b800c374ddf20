"""A token budget from a target of the time between tokens: the longest iterations of a budget, and what they give.

Source: Sarathi-Serve (Agrawal et al., OSDI 2024), section 4.3. Ours: which batches are timed. The target is to hold at
the tail, so two of a budget's batches count: with as many decodes as the pool holds, where reading KV takes the time,
and with a single one, where the prompts do. Their pieces end where the longest conversation does, behind as much
context as there can be; a decode has half the mean context of a whole conversation. Waiting for copies comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import Workload
from fastswitch.sched import token_budget_for

__all__ = ["MOST_TOKENS", "Chunk", "DerivedBudget", "LongestIterations", "derive_budget"]

Chunk = tuple[int, int, bool]  # tokens with KV, tokens to compute, is the last one sampled from

MOST_TOKENS = 8192  # of a budget: what prompts get at a time where nothing is cut


@dataclass(frozen=True, slots=True)
class LongestIterations:
    """What is timed for a budget.

    Attributes:
        num_decodes: as many requests as the pool holds at ``context``, or as there are.
        context: tokens before a decode's.
        longest: tokens of the longest conversation.
    """

    num_decodes: int
    context: int
    longest: int

    @classmethod
    def of(cls, workload: Workload, device_tokens: int) -> LongestIterations:
        """Of a workload on a pool of so many tokens."""
        context = max(1, round((workload.input_tokens + workload.output_tokens) / len(workload) / 2))
        return cls(max(1, min(len(workload), device_tokens // context)), context, workload.max_context)

    @property
    def least_tokens(self) -> int:
        """Of a budget that stalls neither a decode nor all prompts."""
        return self.num_decodes + 1

    def batches(self, num_tokens: int) -> list[list[Chunk]]:
        """Of a budget of at least ``least_tokens``: with one decode, and with all of them."""
        decode = (self.context, 1, True)
        return [[decode] * n + self._pieces(num_tokens - n) for n in sorted({1, self.num_decodes})]

    def _pieces(self, num_tokens: int) -> list[Chunk]:
        """So many tokens of prompts: a piece at the end of one, and whole ones where that is not enough."""
        whole, rest = divmod(num_tokens, self.longest)
        return [(0, self.longest, True)] * whole + [(self.longest - rest, rest, True)] * bool(rest)


@dataclass(frozen=True, slots=True)
class DerivedBudget:
    """What a token budget was derived from.

    Attributes:
        tbt_target_s: the target.
        batches: what was timed.
        timed_by: ``roofline`` or ``measured``.
        iteration_s: of the budget, the longer one.
        iterations: (num_tokens, seconds) of each budget that was tried, smallest first.
    """

    tbt_target_s: float
    batches: LongestIterations
    timed_by: str
    iteration_s: float
    iterations: tuple[tuple[int, float], ...]


def derive_budget(
    target_ms: float,
    batches: LongestIterations,
    seconds: Callable[[Sequence[Chunk]], float],
    *,
    timed_by: str,
    most: int = MOST_TOKENS,
) -> tuple[int, DerivedBudget]:
    """The largest budget up to ``most`` whose iterations stay within the target, and what it comes from.

    Args:
        target_ms: as on the command line.
        batches: what is timed.
        seconds: of a batch; each is asked about once.
        timed_by: ``roofline`` or ``measured``.
        most: the largest budget, if it is not below ``batches.least_tokens``.

    Raises:
        UsageError: if an iteration that stalls nobody takes longer even with the smallest budget.
    """
    tried: dict[int, float] = {}

    @cache
    def longest_s(num_tokens: int) -> float:
        tried[num_tokens] = max(map(seconds, batches.batches(num_tokens)))
        return tried[num_tokens]

    target_s, least = target_ms * 1e-3, batches.least_tokens
    if (shortest_ms := longest_s(least) * 1e3) > target_ms:
        raise UsageError(
            f"--tbt-target {target_ms:g} is too short: {batches.num_decodes} decodes, as many as the pool holds, and a "
            f"token of a prompt take {shortest_ms:.4g} ms ({timed_by}): give more, or lower --device-tokens"
        )
    budget = token_budget_for(target_s, longest_s, least=least, most=max(least, most))
    return budget, DerivedBudget(target_s, batches, timed_by, tried[budget], tuple(sorted(tried.items())))

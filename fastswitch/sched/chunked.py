"""Prompts in pieces beside everybody's decodes, so that no prompt makes an answer wait.

Source: Sarathi-Serve (Agrawal et al., OSDI 2024), algorithm 3, stall-free batching: all decodes, then what is left of a
        token budget for the prompts that are begun, then for new ones.
Ours:   best first within each of the three, and what to do with more decodes than the budget. The paper does not say;
        its code computes them all, and so goes above the budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from fastswitch.sched.roles import ScheduledTokens, SchedulerOutput, scheduled
from fastswitch.sched.view import RequestView

__all__ = ["ChunkedPrefill"]


class ChunkedPrefill:
    """Decodes first, never stalled by a prompt; prompts, cut to what is left of the budget, behind them.

    A decode is whoever lacks one token: also a prompt whose last token alone is missing. A prompt is begun when it
    lacks less than its turn brought; so one that lost its KV after it had answered in part is new for a while.

    With more decodes than the budget, the best ``token_budget`` of them get their token and the others wait, as do all
    prompts: who deserves a token more is the ranker's matter, so the packer takes no turns. A budget that is to stall
    no decode is above the number of residents.

    >>> ChunkedPrefill(512).token_budget
    512

    Args:
        token_budget: tokens in one iteration at most, at least 1; 512 is the smaller of the two that the paper uses.

    Raises:
        ValueError: if ``token_budget`` is not positive.
    """

    def __init__(self, token_budget: int = 512) -> None:
        if token_budget < 1:
            raise ValueError(f"token_budget must be positive, got {token_budget}")
        self.token_budget = token_budget

    def pack(self, ready: Sequence[RequestView]) -> SchedulerOutput:
        """One token of each decode, then pieces of prompts; each kind best first. O(n)."""
        batch: list[ScheduledTokens] = []
        begun: list[ScheduledTokens] = []
        new: list[ScheduledTokens] = []
        for request in ready:
            missing = request.num_tokens - (start := request.device_valid_len)
            kind = batch if missing == 1 else begun if missing < request.num_prompt_tokens else new
            kind.append(scheduled((request.request_id, start, missing)))
        left = self.token_budget - len(batch)
        if left < 0:
            del batch[left:]
        batch.extend(_cut(chain(begun, new), left))
        return SchedulerOutput(tuple(batch))


def _cut(prompts: Iterable[ScheduledTokens], budget: int) -> Iterable[ScheduledTokens]:
    """The first of them, up to so many tokens; the last one in part."""
    for entry in prompts:
        if budget < 1:
            return
        num_tokens = min(entry.num_tokens, budget)
        budget -= num_tokens
        yield entry if num_tokens == entry.num_tokens else entry._replace(num_tokens=num_tokens)

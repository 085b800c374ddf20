"""Who gets tokens this iteration.

``PrefillFirst`` is vLLM 0.3's rule, the base of the paper's evaluation: while a prompt is waiting to be computed the
iteration computes prompts alone, and decodes stand still.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastswitch.sched.roles import ScheduledTokens, SchedulerOutput, scheduled
from fastswitch.sched.view import RequestView

__all__ = ["PrefillFirst"]


class PrefillFirst:
    """Prompts before decodes, best first, up to a number of tokens.

    Ours: a prompt longer than the whole budget is computed in pieces of it, where vLLM 0.3 refuses it.

    Args:
        max_tokens: tokens in one iteration, at least 1.

    Raises:
        ValueError: if ``max_tokens`` is not positive.

    >>> from types import SimpleNamespace as Request
    >>> decode = Request(request_id=0, device_valid_len=9, num_tokens=10)
    >>> prompt = Request(request_id=1, device_valid_len=0, num_tokens=64)
    >>> packer = PrefillFirst()
    >>> [tuple(entry) for entry in packer.pack([decode, prompt]).scheduled], packer.pack([decode]).num_tokens
    ([(1, 0, 64)], 1)
    """

    def __init__(self, max_tokens: int = 8192) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be positive, got {max_tokens}")
        self.max_tokens = max_tokens

    def pack(self, ready: Sequence[RequestView]) -> SchedulerOutput:
        """The first prompts that fit, whole; if there is none, one token of each request."""
        todo = [
            scheduled((request.request_id, start := request.device_valid_len, request.num_tokens - start))
            for request in ready
        ]
        prompts = [entry for entry in todo if entry[2] > 1]
        return SchedulerOutput(tuple(self._fitting(prompts) if prompts else todo[: self.max_tokens]))

    def _fitting(self, prompts: list[ScheduledTokens]) -> list[ScheduledTokens]:
        budget = self.max_tokens
        batch: list[ScheduledTokens] = []
        for entry in prompts:
            if entry.num_tokens > budget:
                if batch:
                    break
                entry = entry._replace(num_tokens=budget)  # noqa: PLW2901 - the first prompt, in part
            batch.append(entry)
            budget -= entry.num_tokens
            if budget == 0:
                break
        return batch

"""Where prompts go and what is kept free for growth: the policies tried, and into how many runs a request falls.

``python benchmarks/placement_policies.py`` prints a markdown table. A and B are the workloads of `allocator_workloads`
with 10,000 and 3,000 requests: A on 20,000 blocks, of which the live set fills a share; B on pools of which the peak of
use is a share. No time is measured, so the table is the same on every machine.
"""

from __future__ import annotations

from functools import partial

from allocator_workloads import churn, decode, runs_per_request

from fastswitch.memory import BlockGroupAllocator

CHURN_BLOCKS, CHURN_REQUESTS, DECODE_REQUESTS = 20_000, 10_000, 3_000
CHURN_FILLS = [0.7, 0.9, 0.98]
DECODE_POOLS = [65_536, 45_000, 34_000, 30_000, 28_500]


class FixedReserve(BlockGroupAllocator):
    """Behind a growth group 60 blocks, whatever owners grow by."""

    def _grow(self, holding, num_blocks):
        self._growth_reserve = self._growth_blocks
        return super()._grow(holding, num_blocks)


class NothingKept(BlockGroupAllocator):
    """size classes only, nothing kept for growth"""

    def __init__(self, num_blocks):
        super().__init__(num_blocks, growth_blocks=0)


class BehindEveryPrompt(FixedReserve):
    """60 blocks behind every prompt, taken back when short"""

    def _admit(self, holding, num_blocks):
        return self._place(holding, num_blocks, self._growth_blocks)


class WhereOwnersGrow(FixedReserve):
    """60 blocks only where an owner grows"""

    def _admit(self, holding, num_blocks):
        return self._place(holding, num_blocks, 0)


class MiddleOfTheLongest(FixedReserve):
    """the same; prompts in the middle of the longest run while half of the pool is free"""

    def _admit(self, holding, num_blocks):
        self._prompt_reserve = 0
        return super()._admit(holding, num_blocks)


class BehindPromptsWhilePlentiful(FixedReserve):
    """60 blocks behind a prompt while 15 % of the pool are free"""

    def _admit(self, holding, num_blocks):
        plentiful = self._num_free >= 0.15 * self._num_blocks
        return self._place(holding, num_blocks, self._growth_blocks if plentiful else 0)


class FrontOfTheLongest(FixedReserve):
    """60 blocks where an owner grows; prompts in front of the longest run while a quarter of the pool is free"""

    def _admit(self, holding, num_blocks):
        start, size = self._runs.take_fit(self._num_blocks)
        if size:
            self._runs.add(start, size)
        if 4 * self._num_free < self._num_blocks or size < num_blocks + self._growth_blocks:
            return self._place(holding, num_blocks, 0)
        self._runs.take_at(start, num_blocks)
        holding.append(start, num_blocks)
        return ((start, num_blocks),)


class LearnedAlone(FixedReserve):
    """behind a prompt what owners lately grew by, else 60; no prompt in the middle"""

    def _admit(self, holding, num_blocks):
        holding.admitted = num_blocks
        return self._place(holding, num_blocks, self._prompt_reserve)


class LearnedBehindPrompts(FixedReserve):
    """the same; prompts in the middle of the longest run while half of the pool is free"""

    def _admit(self, holding, num_blocks):
        if 2 * self._num_free >= self._num_blocks:
            return super()._admit(holding, num_blocks)
        holding.admitted = num_blocks
        return self._place(holding, num_blocks, self._prompt_reserve)


class Current(BlockGroupAllocator):
    """**the current one: the same, also behind growth groups; behind prompts only while 15 % of the pool are free**"""


POLICIES = [
    NothingKept,
    BehindEveryPrompt,
    WhereOwnersGrow,
    MiddleOfTheLongest,
    BehindPromptsWhilePlentiful,
    FrontOfTheLongest,
    LearnedAlone,
    LearnedBehindPrompts,
    Current,
]


def peak_of_decode() -> int:
    """The most blocks that B holds at once, whatever the allocator."""
    allocator = BlockGroupAllocator(DECODE_POOLS[0])
    return max(allocator.num_blocks - allocator.num_free for _ in decode(allocator, DECODE_REQUESTS))


def main() -> None:
    """Print the table."""
    workloads = {
        f"A {fill:.0%}": (CHURN_BLOCKS, partial(churn, room=int(fill * CHURN_BLOCKS), num_requests=CHURN_REQUESTS))
        for fill in CHURN_FILLS
    }
    peak = peak_of_decode()
    for num_blocks in DECODE_POOLS:
        workloads[f"B {peak / num_blocks:.0%}"] = (num_blocks, partial(decode, num_requests=DECODE_REQUESTS))
    print("| runs per request |", " | ".join(workloads), "|")
    print("|---" * (1 + len(workloads)) + "|")
    for policy in POLICIES:
        cells = [runs_per_request(partial(policy, num_blocks), run) for num_blocks, run in workloads.values()]
        print(f"| {policy.__doc__} |", " | ".join(f"{cell:.2f}" for cell in cells), "|", flush=True)


if __name__ == "__main__":
    main()

"""Before a run is timed: what the first iterations and copies of a process pay besides.

Ours. Triton compiles a kernel when it is first launched, CUDA loads a matrix product's when its shape first occurs, and
memory is taken from the driver when it is first needed. The first run would pay for all of them, and no comparison with
it would be worth anything. So, on pools of its own: decodes and chunks of every length and number, by powers of two,
and every way that copies will take. On a CPU there is nothing to compile, and one iteration is all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.ways import CHOSEN
from fastswitch.kernels import TRANSFERS, why_not
from fastswitch.kernels.measure_transfers import CHOICES
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["iterations", "warm_up"]

MOST_DECODES = 128
CHUNK = 32  # tokens: more than one strip of rows
# Single blocks, and blocks in a row: they are copied by two kernels.
RUNS = (np.array([[0, 0, 1], [2, 2, 1]]), np.array([[0, 0, 3], [4, 4, 3]]))
COPIED_BLOCKS = 8


def warm_up(model: LoadedModel, layout: KVLayout, ways: Iterable[str], *, max_context: int, token_budget: int) -> None:
    """Run what runs on pools of one layout will need; returns when it is over.

    Args:
        model: computes.
        layout: of the pools.
        ways: that swaps will be copied by: keys of `TRANSFERS`, or ``"chosen"``.
        max_context: tokens of the longest request.
        token_budget: most tokens of an iteration.
    """
    device = model.model.device
    pool = KVPool(layout, layout.blocks_for(max_context), device)
    pool.fill(np.arange(pool.num_blocks), 0.0)
    table = np.arange(pool.num_blocks, dtype=np.int32)
    executor = ModelExecutor(model.model, pool)
    enough = 1 if device.type == "cpu" else None
    for batch in itertools.islice(iterations(max_context, token_budget), enough):
        executor.run(
            [
                BatchEntry(i, start, tokens, samples=True, source=KnownTokens([0] * tokens, table, first=start))
                for i, (start, tokens) in enumerate(batch)
            ]
        )
    if device.type != "cpu":
        _copy(layout, device, ways)


def iterations(max_context: int, token_budget: int) -> Iterator[list[tuple[int, int]]]:
    """Batches as (tokens before, tokens) a request: every length, then every number, by powers of two."""
    contexts = [*itertools.takewhile(lambda context: context < max_context - 1, _doubling(1)), max_context - 1]
    for context in contexts:
        yield [(context, 1)]
        if context >= CHUNK:
            yield [(context - CHUNK, CHUNK)]
    for number in itertools.takewhile(lambda number: number <= MOST_DECODES, _doubling(2)):
        yield [(contexts[len(contexts) // 2], 1)] * number
    for tokens in itertools.takewhile(lambda tokens: tokens <= token_budget, _doubling(2)):
        prompts = -(-tokens // max_context)
        yield [(0, tokens // prompts)] * prompts


def _doubling(first: int) -> Iterator[int]:
    return (first << power for power in itertools.count())


def _copy(layout: KVLayout, device: torch.device, ways: Iterable[str]) -> None:
    """By each way, in both directions, on a stream that is not the default one: `batched` refuses that."""
    on_device, on_host = KVPool(layout, COPIED_BLOCKS, device), KVPool(layout, COPIED_BLOCKS, pinned=True)
    names = {name for way in ways for name in (CHOICES if way == CHOSEN else (way,))}
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for name, runs in itertools.product(sorted(names), RUNS):
            if why_not(name, device) is None:
                TRANSFERS[name](on_device.planes, on_host.planes, runs)
                TRANSFERS[name](on_host.planes, on_device.planes, runs)
    stream.synchronize()

"""A preset of the simulator for a model on this machine: iterations of the real executor, measured and fitted.

Ours. A pass runs every batch of a small grid once; passes are made at several times, so that a point's median is of the
machine as it was meanwhile. One thread computes, so nothing of an iteration is hidden behind anything (``overlap`` 0);
attention on the CPU pads the decodes (``padding`` 1). So its time is a sum of costs that are not negative:

    seconds = FLOPs / flops + bytes / bytes_per_s + iteration_s + request_s x requests + chunk_s x chunks

The fit minimises the squares of the relative errors: of the few batches that long prompts make and the many of single
tokens neither counts for more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine import BatchEntry
from fastswitch.engine.clock import RealClock
from fastswitch.engine.executor import KnownTokens
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.simulator import IterationWork, ModelShape, Roofline
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["IterationTimes", "fit_roofline", "grid", "least_squares", "model_shape"]

Chunk = tuple[int, int, bool]  # tokens whose KV is there, tokens to compute, whether the last is sampled from
Batch = tuple[Chunk, ...]

DECODES = (1, 2, 3, 5, 8, 12, 16)
RAGGED = (1, 3, 7, 12)  # short contexts beside a long one
PROMPTS = (4, 16, 48)
PREFIXES = (0.1, 0.4, 1.0)  # of the longest context


def grid(longest: int, device_tokens: int) -> list[Batch]:
    """The batches to measure: decodes, prompts, chunks behind a prefix, several of them; all fit the device's pool.

    Args:
        longest: context of the workload.
        device_tokens: of the pool.
    """
    contexts = [max(1, round(share * longest)) for share in PREFIXES]
    decodes = [((context - 1, 1, True),) * many for many in DECODES for context in contexts]
    prompts = [((0, length, True),) for length in (*PROMPTS, longest)]
    behind = [((context, length, True),) for context in contexts for length in PROMPTS]
    several = [((context, length, True),) * 4 for context in (0, contexts[0]) for length in PROMPTS[:2]]
    ragged = [
        ((context - 1, 1, True),) + ((contexts[0], 1, True),) * many for context in contexts[1:] for many in RAGGED
    ]
    batches = dict.fromkeys(decodes + ragged + prompts + behind + several)
    return [batch for batch in batches if sum(start + length for start, length, _ in batch) <= device_tokens]


class IterationTimes:
    """Seconds of each batch of the grid, a pass at a time.

    Args:
        bed: whose model, and whose pool's layout.
        batches: the grid.
    """

    def __init__(self, bed: ModelBed, batches: Sequence[Batch]) -> None:
        layout = bed.spec.layout
        most = max(sum(layout.blocks_for(start + length) for start, length, _ in batch) for batch in batches)
        pool = KVPool(layout, most)
        pool.fill(np.arange(most), 0.0)  # slots that nobody wrote would make it compute with NaN
        self._executor = ModelExecutor(bed.model.model, pool)
        self._entries = [_entries(batch, layout, bed.model.vocab_size) for batch in batches]
        self._passes: list[list[float]] = []  # of each pass, seconds of each batch
        self._clock = RealClock()
        self.batches = list(batches)
        for entries in self._entries:
            self._executor.run(entries)

    def iterate(self) -> None:
        """An iteration that nobody times: what follows finds the processor awake, its caches full of other things."""
        self._executor.run(self._entries[0])

    def sample(self) -> None:
        """One pass over the grid."""
        self.iterate()
        seconds = []
        for entries in self._entries:
            start = self._clock.now()
            self._executor.run(entries)
            seconds.append(self._clock.now() - start)
        self._passes.append(seconds)

    def medians(self) -> list[float]:
        """Of each batch, over the passes so far."""
        return [float(median) for median in np.median(self._passes, axis=0)]

    @property
    def num_passes(self) -> int:
        """So far."""
        return len(self._passes)

    def noise(self, first: int = 0, stop: int | None = None) -> list[float]:
        """Times of these passes over their batches' medians of all passes, in the order of time.

        It tells how slow the machine was meanwhile, and how it slowed down and caught up.
        """
        return [float(each) for each in (np.array(self._passes[first:stop]) / np.median(self._passes, axis=0)).flat]


def fit_roofline(model: ModelShape, batches: Sequence[Batch], seconds: Sequence[float]) -> Roofline:
    """The preset whose iterations come closest, by relative error, to what was measured."""
    works = [IterationWork.of(model, batch) for batch in batches]
    terms = np.array(
        [[each.flops, each.moved_bytes + each.padding_bytes, 1.0, each.requests, each.chunks] for each in works]
    )
    flop_s, byte_s, iteration_s, request_s, chunk_s = least_squares(terms, np.asarray(seconds))
    return Roofline(
        model,
        flops=1 / flop_s if flop_s else math.inf,
        bytes_per_s=1 / byte_s if byte_s else math.inf,
        iteration_s=iteration_s,
        request_s=request_s,
        chunk_s=chunk_s,
        overlap=0.0,
        padding=1.0,
    )


def least_squares(terms: NDArray[np.float64], measured: NDArray[np.float64]) -> list[float]:
    """The coefficients, none negative, that make the relative errors of ``terms @ coefficients`` smallest.

    Every choice of terms is solved and the best of those with no negative coefficient taken: exact, and quick for the
    few terms there are.

    Args:
        terms: ``[n, k]``.
        measured: ``[n]``, positive.
    """
    scale = np.abs(terms).max(axis=0)
    scale[scale == 0] = 1.0
    rows, ones = terms / scale / measured[:, None], np.ones(len(measured))
    num_terms = terms.shape[1]
    best, least = np.zeros(num_terms), math.inf
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(range(num_terms), many) for many in range(1, num_terms + 1)
    ):
        columns = list(chosen)
        found, *_ = np.linalg.lstsq(rows[:, columns], ones, rcond=None)
        error = float(np.square(rows[:, columns] @ found - ones).sum())
        if (found >= 0).all() and error < least:
            best, least = np.zeros(num_terms), error
            best[columns] = found
    return [float(value) for value in best / scale]


def model_shape(model: LoadedModel, layout: KVLayout) -> ModelShape:
    """The model's, by its configuration."""
    config: Any = model.model.config.get_text_config(decoder=True)
    return ModelShape(
        name=model.name,
        title=f"model {model.name}, {layout.dtype}",
        num_layers=layout.num_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=layout.num_kv_heads,
        head_dim=layout.head_dim,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        weight_bytes_each=model.dtype.itemsize,
        kv_dtype=layout.dtype,
        source="the loaded model",
        max_positions=model.max_context,
    )


def _entries(batch: Batch, layout: KVLayout, vocab_size: int) -> list[BatchEntry]:
    entries, first = [], 0
    for request_id, (start, length, samples) in enumerate(batch):
        table = np.arange(first, first + layout.blocks_for(start + length), dtype=np.int32)
        first += len(table)
        entries.append(_entry(request_id, [token % vocab_size for token in range(length)], start, table, samples))
    return entries


def _entry(
    request_id: int, token_ids: Sequence[int], start: int, table: NDArray[np.int32], samples: bool
) -> BatchEntry:
    source = KnownTokens(token_ids, table, first=start)
    return BatchEntry(request_id, start, len(token_ids), samples, source)

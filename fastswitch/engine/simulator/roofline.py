"""How long an iteration takes: the longer of computing and reading, and a fixed time besides.

Source: the roofline model (Williams, Waterman, Patterson 2009); its use for an iteration is ours:

    seconds = max(FLOPs / achieved FLOP/s, bytes / achieved bytes/s) + iteration_s + request_s x requests

- FLOPs: 2 a token and layer weight, 2 a *sampled* token and weight of the output head, and for attention 4 a pair of
  query and key, head and dimension of it; a chunk of n tokens behind s others has n s + n (n + 1) / 2 such pairs.
- bytes: all weights once, the KV of each request's tokens once, the new tokens' KV once more, written.

An accelerator hides the shorter of the two behind the longer. A processor that does one after the other hides nothing,
so the sum takes the place of the maximum: ``overlap`` says which part is hidden. A kernel for ragged batches reads the
KV that there is; attention that pads the decodes reads for each as much as for the longest: ``padding`` says which part
of that is read. These two, and the host's work for a request of the batch and for one that computes more than a token,
change nothing in the accelerators' presets; for a CPU they are known or measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.executor import BatchEntry
from fastswitch.engine.simulator.model_shape import ModelShape

__all__ = ["IterationWork", "Roofline", "RooflineExecutor", "RooflineProfile"]

FORCED_TOKEN = 0
VOCAB_SIZE = 2**31  # no token means anything, so any may be asked for


@dataclass(frozen=True, slots=True)
class IterationWork:
    """What there is to do in an iteration.

    Attributes:
        flops: to compute.
        moved_bytes: to read and write.
        padding_bytes: of KV, which requests of one token lack to the one with the longest context among them.
        requests: in the batch.
        chunks: of these, how many compute more than one token.
    """

    flops: float
    moved_bytes: float
    padding_bytes: float
    requests: int
    chunks: int

    @classmethod
    def of(cls, model: ModelShape, chunks: Iterable[tuple[int, int, bool]]) -> IterationWork:
        """Of a batch.

        Args:
            model: whose iteration.
            chunks: for each request the tokens whose KV is there, the tokens to compute, and whether the last one of
                them is sampled from.
        """
        num_tokens = num_samples = pairs = context = num_chunks = 0
        decodes = [0]  # the context of each, and of none
        for start, num_new, samples in chunks:
            num_samples += samples
            if num_new > 1:
                num_chunks += 1
                num_tokens += num_new
                pairs += num_new * start + num_new * (num_new + 1) // 2
                context += start + num_new
            else:
                decodes.append(start + 1)
        num_decodes, decoded = len(decodes) - 1, sum(decodes)
        num_tokens += num_decodes
        pairs += decoded  # a token's query meets the keys of its context
        context += decoded
        linear = model.layer_parameters * num_tokens + model.head_parameters * num_samples
        attention = 2 * model.num_layers * model.num_heads * model.head_dim * pairs
        weights = (model.layer_parameters + model.head_parameters) * model.weight_bytes_each
        kv_token_bytes = model.kv_token_bytes
        moved = weights + kv_token_bytes * (context + num_tokens)
        padding = kv_token_bytes * (num_decodes * max(decodes) - decoded)
        return cls(2 * (linear + attention), moved, padding, num_decodes + num_chunks, num_chunks)


@dataclass(frozen=True, slots=True)
class Roofline:
    """The time of an iteration, as a function of its batch.

    Attributes:
        model: whose iteration.
        flops: floating-point operations a second that are achieved.
        bytes_per_s: of the device's memory, achieved.
        iteration_s: seconds besides.
        request_s: seconds besides, a request of the batch.
        chunk_s: seconds besides, a request that computes more than one token.
        overlap: which part of the shorter of computing and reading is hidden behind the longer, from 0 to 1.
        padding: which part of the padding of decodes to the longest of them is read, from 0 to 1.

    >>> from fastswitch.engine.simulator.model_shape import MODELS
    >>> a10 = Roofline(MODELS["llama8b"], flops=75e12, bytes_per_s=480e9, iteration_s=0.003)
    >>> f"{a10.seconds([(0, 1000, True)]):.4f} s for a prompt, {a10.seconds([(1000, 1, True)]):.4f} s for a token"
    '0.1926 s for a prompt, 0.0345 s for a token'
    """

    model: ModelShape
    flops: float
    bytes_per_s: float
    iteration_s: float
    request_s: float = 0.0
    chunk_s: float = 0.0
    overlap: float = 1.0
    padding: float = 0.0

    def seconds(self, chunks: Iterable[tuple[int, int, bool]]) -> float:
        """Of a batch; ``chunks`` as in `IterationWork.of`."""
        work = IterationWork.of(self.model, chunks)
        moved = work.moved_bytes + self.padding * work.padding_bytes
        computing_s, reading_s = work.flops / self.flops, moved / self.bytes_per_s
        shown_s = max(computing_s, reading_s) + (1 - self.overlap) * min(computing_s, reading_s)
        return shown_s + self.iteration_s + self.request_s * work.requests + self.chunk_s * work.chunks


@dataclass(frozen=True, slots=True)
class RooflineProfile:
    """What a scheduler may know of the model beforehand; satisfies ``Profile``.

    Attributes:
        roofline: how long an iteration takes.
        mean_context: tokens that a request has at a decode.
        decode_batch: requests of a decode.
    """

    roofline: Roofline
    mean_context: int
    decode_batch: int

    @property
    def decode_s(self) -> float:
        """Seconds of a decode."""
        return self.roofline.seconds([(self.mean_context, 1, True)] * self.decode_batch)

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds of a prompt of so many tokens behind no others."""
        return self.roofline.seconds([(0, num_tokens, True)])


class RooflineExecutor:
    """Lets an iteration's time pass and returns a forced token for each request that samples. Satisfies ``Executor``.

    Args:
        roofline: how long an iteration takes.
        clock: whose time passes.
        max_context: tokens that a request may have in all.
        noise: factors of the iterations' times, one after the other, again from the first after the last; a machine
            that others use too is as noisy.
    """

    vocab_size = VOCAB_SIZE

    def __init__(
        self, roofline: Roofline, clock: VirtualClock, *, max_context: int, noise: Sequence[float] = (1.0,)
    ) -> None:
        self.max_context = max_context
        self._roofline = roofline
        self._clock = clock
        self._noise = itertools.cycle(noise)

    def run(self, batch: Sequence[BatchEntry]) -> list[int | None]:
        """The forced tokens, after the iteration's time."""
        chunks = [(start, num_tokens, samples) for _, start, num_tokens, samples, _ in batch]
        self._clock.sleep(self._roofline.seconds(chunks) * next(self._noise))
        return [FORCED_TOKEN if samples else None for _, _, samples in chunks]

"""What this machine does with this model, measured once before the runs.

Ours. Three things: how fast it prefills and decodes, which sets the load; what link would make a 500-token swap as
long, beside an iteration, as on an A10; and what the same copies really cost here, which is printed beside.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from fastswitch.engine.clock import RealClock
from fastswitch.engine.executor import BatchEntry, KnownTokens
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.model_executor import ModelExecutor
from fastswitch.engine.models import LoadedModel
from fastswitch.engine.workloads import Workload
from fastswitch.kernels import TRANSFERS
from fastswitch.memory import KVLayout
from fastswitch.memory.pool import KVPool

__all__ = ["SWAP_TOKENS", "Speeds", "default_link", "measure_speeds", "median_s", "per_block_call_us", "raw_copy_ms"]

DECODE_BATCH = 8
SWAP_TOKENS = 500
REPEATS = 15
ISSUED_CALLS = 512

# Llama-3-8B on an A10, bf16: 128 KiB of KV a token over 80 % of PCIe 4.0 x16 (32 GB/s a way); an iteration reads
# 16.06 GB of weights at 80 % of 600 GB/s and takes 3 ms besides (docs/design.md, declared assumptions).
A10_SWAP_S = SWAP_TOKENS * 131072 / (0.8 * 32e9)
A10_ITERATION_S = 16.06e9 / (0.8 * 600e9) + 0.003
A10_CALL_US = 10.0  # to dispatch one copy: about 10 us, by a digest of the paper
A10_LAYERS = 32


@dataclass(frozen=True, slots=True)
class Speeds:
    """Of one model on this machine; satisfies ``Profile``.

    Attributes:
        prefill_tokens_per_s: one prompt of the workload's mean input.
        decode_tokens_per_s: eight requests at the workload's mean context.
        iteration_s: of that decode.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    iteration_s: float

    @property
    def decode_s(self) -> float:
        """Seconds of that decode."""
        return self.iteration_s

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds of a prompt of so many tokens, each as long as in that prefill; at least a decode's."""
        return max(self.iteration_s, num_tokens / self.prefill_tokens_per_s)

    def work_s(self, workload: Workload) -> float:
        """Seconds that the workload's tokens would take at these speeds."""
        return workload.input_tokens / self.prefill_tokens_per_s + workload.output_tokens / self.decode_tokens_per_s


def measure_speeds(model: LoadedModel, layout: KVLayout, workload: Workload) -> Speeds:
    """Measure prefill and decode, medians of a few repeats after a warm-up."""
    mean_input = max(1, round(workload.input_tokens / workload.num_turns))
    mean_context = max(1, round((workload.input_tokens + workload.output_tokens) / len(workload) / 2))
    blocks_each = layout.blocks_for(max(mean_input, mean_context) + 1)
    pool = KVPool(layout, blocks_each * DECODE_BATCH, model.model.device)
    pool.fill(np.arange(pool.num_blocks), 0.0)  # unwritten slots would make it decode NaN
    executor = ModelExecutor(model.model, pool)
    tables = [np.arange(i * blocks_each, (i + 1) * blocks_each, dtype=np.int32) for i in range(DECODE_BATCH)]
    prompt = [token % model.vocab_size for token in range(mean_input)]
    prefill = [BatchEntry(0, 0, mean_input, samples=True, source=KnownTokens(prompt, tables[0]))]
    newest = [KnownTokens([i], table, first=mean_context) for i, table in enumerate(tables)]
    decode = [BatchEntry(i, mean_context, 1, samples=True, source=token) for i, token in enumerate(newest)]
    prefill_s = median_s(lambda: executor.run(prefill))
    decode_s = median_s(lambda: executor.run(decode))
    return Speeds(mean_input / prefill_s, DECODE_BATCH / decode_s, decode_s)


def default_link(
    speeds: Speeds, layout: KVLayout, call_us: float | None = None, gbps: float | None = None
) -> EmulatedLink:
    """A link on which a 500-token swap is to an iteration here what it is on an A10, and its calls likewise."""
    swap_s = speeds.iteration_s * A10_SWAP_S / A10_ITERATION_S
    return EmulatedLink(
        call_us=A10_CALL_US * A10_LAYERS / layout.num_layers if call_us is None else call_us,
        gbps=SWAP_TOKENS * layout.token_bytes / swap_s / 1e9 if gbps is None else gbps,
    )


def raw_copy_ms(layout: KVLayout, device: torch.device) -> dict[str, float]:
    """Milliseconds that a 500-token swap-out takes here without any emulation, by order and way.

    ``per_block`` moves scattered blocks, ``per_run`` one run.
    """
    num_blocks = layout.blocks_for(SWAP_TOKENS)
    scattered = np.stack([np.arange(num_blocks) * 2, np.arange(num_blocks) * 2, np.ones(num_blocks, np.int64)], axis=1)
    one_run = np.array([[0, 0, num_blocks]], np.int64)
    result = {}
    for order in ("layer_major", "block_major"):
        pools = [
            KVPool(replace(layout, order=order), 2 * num_blocks, device),
            KVPool(replace(layout, order=order), 2 * num_blocks, pinned=device.type == "cuda"),
        ]
        for pool in pools:
            pool.fill(np.arange(pool.num_blocks), 1.0)
        for way, runs in (("per_block", scattered), ("per_run", one_run)):
            transfer, (source, destination) = TRANSFERS[way], [pool.planes for pool in pools]
            result[f"{order}/{way}"] = 1e3 * median_s(
                lambda transfer=transfer, s=source, d=destination, r=runs: _copy(transfer, s, d, r, device)  # type: ignore[misc]
            )
    return result


def per_block_call_us(layout: KVLayout, device: torch.device) -> float | None:
    """Microseconds to issue one memcpy of a block's piece, as ``per_block`` does in layer-major order; None on a CPU.

    Few enough are issued that the stream's queue, of about a thousand, does not fill.
    """
    if device.type != "cuda":
        return None
    layer_major = replace(layout, order="layer_major")
    num_blocks = max(1, ISSUED_CALLS // layer_major.pieces_per_block)
    pools = KVPool(layer_major, num_blocks, device), KVPool(layer_major, num_blocks, pinned=True)
    source, destination = (pool.planes for pool in pools)
    runs = np.array([[0, 0, num_blocks]], np.int64)
    clock, seconds = RealClock(), []
    for _ in range(REPEATS):
        torch.cuda.synchronize(device)
        start = clock.now()
        count = TRANSFERS["per_block"](source, destination, runs)
        seconds.append((clock.now() - start) / count.calls)
    torch.cuda.synchronize(device)
    return statistics.median(seconds) * 1e6


def _copy(
    transfer: Callable[..., object], source: object, destination: object, runs: object, device: torch.device
) -> None:
    transfer(source, destination, runs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds of ``work``, which returns when it is done, after a warm-up."""
    work()
    clock, seconds = RealClock(), []
    for _ in range(repeats):
        start = clock.now()
        work()
        seconds.append(clock.now() - start)
    return statistics.median(seconds)

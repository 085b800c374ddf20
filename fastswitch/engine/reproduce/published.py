"""What the paper reports, as far as we have it, and how surely.

Source: FastSwitch (arXiv 2411.18424). Its abstract says "1.4-11.2x over vLLM across tail TTFT and TBT"; every other
figure here is from second-hand digests or from memory, and is marked so. Absolute latencies, the ablation's table, the
priorities' transition matrix, think times and seeds we could not find.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEAN_TURNS", "PUBLISHED", "PublishedRange"]

MEAN_TURNS = 5.5  # of its conversations, second-hand


@dataclass(frozen=True, slots=True)
class PublishedRange:
    """How many times better than vLLM 0.3.3 the paper's system was.

    Attributes:
        low: None where only an upper end is known.
        high: the upper end.
        known: ``second-hand`` or ``from memory``.
    """

    low: float | None
    high: float
    known: str

    def __str__(self) -> str:
        return f"up to {self.high:g}" if self.low is None else f"{self.low:g}-{self.high:g}"


# setup |-> figure, as in ``speedup`` |-> range over its two patterns of priorities
PUBLISHED: dict[str, dict[str, PublishedRange]] = {
    "llama8b-a10": {
        "ttft_p95": PublishedRange(4.3, 5.8, "from memory"),
        "ttft_p99": PublishedRange(3.7, 4.1, "from memory"),
        "ttft_p99.9": PublishedRange(2.5, 3.7, "from memory"),
        "tbt_p99.9": PublishedRange(2.0, 2.7, "from memory"),
        "tokens_per_s": PublishedRange(None, 1.44, "second-hand"),
    },
    "qwen32b-a100": {
        "ttft_p95": PublishedRange(1.4, 1.7, "from memory"),
        "ttft_p99": PublishedRange(1.5, 1.6, "from memory"),
        "ttft_p99.9": PublishedRange(1.3, 1.4, "from memory"),
        "tbt_p99.9": PublishedRange(3.6, 11.2, "from memory"),
        "tokens_per_s": PublishedRange(None, 1.44, "second-hand"),
    },
}

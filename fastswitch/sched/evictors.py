"""What happens to a victim's KV: it is copied to the host, or dropped and recomputed.

Paper: vLLM 0.3's two preemption modes. Ours: a victim for which the host has no room is recomputed (rule 6).
"""

from __future__ import annotations

from fastswitch.sched.roles import EvictionWay
from fastswitch.sched.view import RequestView

__all__ = ["Recompute", "SwapOut"]


class SwapOut:
    """Copies the victim's KV to the host, unless the host has no room for it."""

    def choose(self, victim: RequestView, host_free: int) -> EvictionWay:
        """``SWAP_OUT``, or ``RECOMPUTE`` when what must be copied does not fit on the host."""
        return EvictionWay.SWAP_OUT if victim.host_blocks_needed <= host_free else EvictionWay.RECOMPUTE


class Recompute:
    """Drops the victim's KV; the request computes it again when its turn comes (vLLM v1 and SGLang today)."""

    def choose(self, victim: RequestView, host_free: int) -> EvictionWay:  # noqa: ARG002
        """Always ``RECOMPUTE``."""
        return EvictionWay.RECOMPUTE

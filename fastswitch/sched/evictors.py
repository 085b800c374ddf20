"""What happens to a victim's KV: it is copied to the host, or dropped and recomputed.

Paper: vLLM 0.3's two preemption modes. Ours: a victim for which the host has no room is recomputed (rule 6), and the
choice between the two by what each would take.
"""

from __future__ import annotations

from typing import Protocol

from fastswitch.sched.roles import EvictionWay
from fastswitch.sched.view import RequestView

__all__ = ["CheapestSwitch", "Recompute", "SwapOut", "SwitchCosts"]


class SwitchCosts(Protocol):
    """What a switch takes, in seconds, as measured; asked at each eviction, so it should cost little."""

    def out_s(self, num_blocks: int) -> float:
        """Of the link, to copy so many blocks of one request to the host."""

    def in_s(self, num_blocks: int) -> float:
        """Of the link, to bring so many blocks of one request back."""

    def recompute_s(self, num_tokens: int) -> float:
        """Of the device, to compute a request's first ``num_tokens`` tokens again."""


class SwapOut:
    """Copies the victim's KV to the host, unless the host has no room for it.

    >>> from types import SimpleNamespace as Request
    >>> victim = Request(host_blocks_needed=8)
    >>> [SwapOut().choose(victim, host_free, num_waiting=0).value for host_free in (8, 7)]
    ['swap_out', 'recompute']
    """

    def choose(self, victim: RequestView, host_free: int, num_waiting: int) -> EvictionWay:  # noqa: ARG002
        """``SWAP_OUT``, or ``RECOMPUTE`` when what must be copied does not fit on the host."""
        return EvictionWay.SWAP_OUT if victim.host_blocks_needed <= host_free else EvictionWay.RECOMPUTE


class Recompute:
    """Drops the victim's KV; the request computes it again when its turn comes (vLLM v1 and SGLang today).

    >>> Recompute().choose(None, host_free=1000, num_waiting=0).value
    'recompute'
    """

    def choose(self, victim: RequestView, host_free: int, num_waiting: int) -> EvictionWay:  # noqa: ARG002
        """Always ``RECOMPUTE``."""
        return EvictionWay.RECOMPUTE


class CheapestSwitch:
    """Takes, for each victim, the way for which people wait fewer seconds until it is back as it was.

    Swapping: what the host lacks goes out now, everything comes back later. Recomputing: all its tokens again, since a
    drop forgets both tiers. A second of the link is waited for by the one that returns; beside it the device computes
    for the others. A second of the device is waited for by everybody who waits for the device, too. Comparing the
    seconds as they are is right where few wait and ruinous where many do (docs/design.md).

    Args:
        costs: what copies and prompts take on this machine.

    >>> from types import SimpleNamespace as Request
    >>> costs = Request(out_s=lambda n: 1e-3 * n, in_s=lambda n: 1e-3 * n, recompute_s=lambda n: 1e-4 * n)
    >>> victim = Request(host_blocks_needed=8, dirty_blocks=8, device_blocks=8, device_valid_len=128)
    >>> [CheapestSwitch(costs).choose(victim, 100, num_waiting).value for num_waiting in (0, 1)]
    ['recompute', 'swap_out']
    """

    def __init__(self, costs: SwitchCosts) -> None:
        self.costs = costs

    def choose(self, victim: RequestView, host_free: int, num_waiting: int) -> EvictionWay:
        """The cheaper one; ``SWAP_OUT`` where they are equal, ``RECOMPUTE`` where the host has no room."""
        if victim.host_blocks_needed > host_free:
            return EvictionWay.RECOMPUTE
        swap_s = self.costs.out_s(victim.dirty_blocks) + self.costs.in_s(victim.device_blocks)
        again_s = self.costs.recompute_s(victim.device_valid_len) * (1 + num_waiting)
        return EvictionWay.SWAP_OUT if swap_s <= again_s else EvictionWay.RECOMPUTE

"""What one switch cost: a job with all that is known of its way, or an eviction that copied nothing.

Ours; no peer reports it. `SwitchCounts` has the totals of a run, also where nobody asked for these.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fastswitch.memory import SwapDirection

__all__ = ["CLEAN", "DROPPED", "SwitchRecord"]

CLEAN = "clean"  # the way of an eviction whose KV was on the host already
DROPPED = "dropped"  # the way of a victim that is computed again


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """One switch, in seconds of the engine's clock.

    On CUDA a stall is here as far as the host itself stood still. What the compute stream waited for a copy is known
    only later: it is in the next iteration's time and in the run's ``stall_s``.

    Attributes:
        request_id, conversation_id: who was switched.
        direction: of the copy; an eviction without one leaves the device, too.
        way: how the bytes crossed; `CLEAN` or `DROPPED` where none had to, ``failed``, ``refused`` or
            ``hung`` where none could.
        submitted_s: when the engine decided on it.
        landed_s: when the engine learnt that it was over.
        num_blocks, num_bytes, num_runs: what the job was to move; bytes of whole blocks, 0 if it failed.
        copies, calls: contiguous pieces moved, and calls issued for them.
        queue_s: from submission to the first copy call.
        copy_s: from the copies' start to their end.
        stall_s: for how long the engine stood still for it: while it was submitted, while it was waited for, and while
            nobody could run before it landed.
        reused_tokens: tokens that an eviction had not to copy again, because they were right on both tiers.
        error: why the copy failed, if it did.
        ahead: it was made before anybody needed it.
        after: jobs of others that it came after, for their blocks.
        handed_over: a return took its blocks while it was being copied out, so nobody waited until it was seen to land.
    """

    request_id: int
    conversation_id: Hashable
    direction: SwapDirection
    way: str
    submitted_s: float
    landed_s: float
    num_blocks: int = 0
    num_bytes: int = 0
    num_runs: int = 0
    copies: int = 0
    calls: int = 0
    queue_s: float = 0.0
    copy_s: float = 0.0
    stall_s: float = 0.0
    reused_tokens: int = 0
    error: str | None = None
    ahead: bool = False
    after: int = 0
    handed_over: bool = False

    @property
    def start_s(self) -> float:
        """When its copies began."""
        return self.submitted_s + self.queue_s

    @property
    def end_s(self) -> float:
        """When its copies were over."""
        return self.start_s + self.copy_s

    @property
    def copied(self) -> bool:
        """Whether bytes crossed; if not, it is a moment and no span."""
        return self.error is None and self.way not in (CLEAN, DROPPED)

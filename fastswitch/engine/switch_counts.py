"""What the switches of a run cost.

Ours; no peer reports it. Every count is of things that happened: a job when it landed, an eviction when it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from fastswitch.engine.swaps import SwapReport
from fastswitch.memory import SwapDirection

__all__ = ["ShortStays", "SwitchCounts"]

OF_CLIENTS = ("swap_outs", "swap_ins", "clean_evictions", "drops", "recomputed_tokens")  # counted for each client, too
OFTEN = 3  # in a row: who is pushed out so often moves more than it computes


@dataclass(slots=True)
class ShortStays:
    """Who was pushed out again having made no more than the one token that everybody is due: the sign of thrash.

    Attributes:
        num: such evictions.
        in_a_row: conversation_id |-> the most that followed each other, a longer stay between two of them excluded.
    """

    num: int = 0
    in_a_row: dict[Hashable, int] = field(default_factory=dict)

    def enter(self, conversation_id: Hashable, in_a_row: int) -> None:
        """One more, the last of so many in a row."""
        self.num += 1
        self.in_a_row[conversation_id] = max(in_a_row, self.in_a_row.get(conversation_id, 0))

    def as_json(self) -> dict[str, Any]:
        """How many, the most in a row, and whom it happened to often."""
        often = [conversation_id for conversation_id, times in self.in_a_row.items() if times >= OFTEN]
        return {
            "short_stays": self.num,
            "most_in_a_row": max(self.in_a_row.values(), default=0),
            f"conversations_{OFTEN}_in_a_row": sorted(often, key=str),
        }


@dataclass(slots=True)
class SwitchCounts:
    """Totals of one run; ``as_json`` gives the contract's names.

    Attributes:
        ahead: copies that landed and were made before anybody needed them; they are among the reports.
        clean_evictions: evictions that needed no copy.
        short_stays: who was pushed out again at once.
        drops: victims recomputed.
        failed: jobs whose copy raised, be it after it was reported.
        hung: jobs that did not come back in time; their blocks were quarantined.
        early: returns that took blocks which were still being copied out, each behind that copy.
        waits: jobs that the engine waited for, one by one, instead of going on beside them.
        reused_tokens: per eviction, tokens that were right on both tiers at its start.
        recomputed_tokens: tokens run through the model again after their KV had existed.
        reports: every job that landed.
        of_clients: (client_id, name) |-> ``swap_outs``, ``swap_ins``, ``clean_evictions``, ``drops`` and
            ``recomputed_tokens`` of each client; they add up to the run's.
    """

    ahead: int = 0
    clean_evictions: int = 0
    short_stays: ShortStays = field(default_factory=ShortStays)
    drops: int = 0
    failed: int = 0
    hung: int = 0
    early: int = 0
    waits: int = 0
    reused_tokens: int = 0
    recomputed_tokens: int = 0
    reports: list[SwapReport] = field(default_factory=list)
    of_clients: Counter[tuple[Hashable, str]] = field(default_factory=Counter)

    def of_client(self, client_id: Hashable) -> dict[str, int]:
        """The ``switches`` object of a client."""
        return {name: self.of_clients[client_id, name] for name in OF_CLIENTS}

    def add(self, report: SwapReport) -> None:
        """Enter a job that ended."""
        if report.error is None:
            self.reports.append(report)
            self.early += bool(report.job.after)
            self.ahead += report.job.ahead
        elif report.hangs:
            self.hung += 1
        else:
            self.failed += 1

    def of(self, direction: SwapDirection) -> list[SwapReport]:
        """The landed jobs of one direction, those made ahead included."""
        return [report for report in self.reports if report.job.direction is direction]

    def ahead_blocks(self, direction: SwapDirection) -> int:
        """Blocks that were copied ahead in one direction."""
        return sum(report.job.num_blocks for report in self.of(direction) if report.job.ahead)

    def as_json(self, stall_s: float) -> dict[str, Any]:
        """The ``switches`` object of a run."""
        swap_outs, swap_ins = self.of(SwapDirection.SWAP_OUT), self.of(SwapDirection.SWAP_IN)
        num_runs = sum(report.job.num_runs for report in self.reports)
        num_blocks = sum(report.job.num_blocks for report in self.reports)
        return {
            "swap_outs": sum(not report.job.ahead for report in swap_outs),
            "swap_ins": sum(not report.job.ahead for report in swap_ins),
            "clean_evictions": self.clean_evictions,
            "drops": self.drops,
            "failed": self.failed,
            "hung": self.hung,
            "early": self.early,
            "waits": self.waits,
            "ahead": self.ahead,
            "ahead_blocks_out": self.ahead_blocks(SwapDirection.SWAP_OUT),
            "ahead_blocks_in": self.ahead_blocks(SwapDirection.SWAP_IN),
            "bytes_out": sum(report.num_bytes for report in swap_outs),
            "bytes_in": sum(report.num_bytes for report in swap_ins),
            "blocks_out": sum(report.job.num_blocks for report in swap_outs),
            "blocks_in": sum(report.job.num_blocks for report in swap_ins),
            "runs": num_runs,
            "copies": sum(report.copies for report in self.reports),
            "calls": sum(report.calls for report in self.reports),
            "ways": dict(sorted(Counter(report.way for report in self.reports).items())),
            "blocks_per_copy": num_blocks / num_runs if num_runs else None,
            "thrash": self.short_stays.as_json(),
            "stall_s": stall_s,
            "queue_s": sum(report.queue_s for report in self.reports),
            "after_s": sum(report.after_s for report in self.reports),
            "copy_s": sum(report.copy_s for report in self.reports),
            "reused_tokens": self.reused_tokens,
            "recomputed_tokens": self.recomputed_tokens,
        }

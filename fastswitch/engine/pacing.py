"""Asks the rule about each copy, and tells it, and whoever prices switches, what the copies took.

Ours. A job may have landed, since later work waits for it, before its copies are over: what they took is known then.
"""

from __future__ import annotations

from fastswitch.engine.swap_rule import SwapMode, SwapRule
from fastswitch.engine.swaps import SwapReport
from fastswitch.engine.switch_costs import RunningCosts
from fastswitch.memory import SwapDirection, SwapJob

__all__ = ["Pacing"]


class Pacing:
    """Between a rule and the jobs.

    Args:
        rule: overlap a copy or wait for it; None always overlaps, any number at once.
        costs: told what copies took; None where nobody prices them.
    """

    def __init__(self, rule: SwapRule | None, costs: RunningCosts | None = None) -> None:
        self._rule = rule
        self._told = [each for each in (rule, costs) if each is not None]
        self._landed: list[SwapReport] = []  # whose copies may still be under way on a device

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be told."""
        return not self._landed

    def is_worth_waiting_for(self, job: SwapJob, num_queued: int) -> bool:
        """Whether the engine should stand still until the job is over.

        Args:
            job: just submitted.
            num_queued: blocks that its direction has to copy, its own included.
        """
        # nobody needs a copy ahead; and where those that it comes after were not worth waiting for, it is not either
        if self._rule is None or job.ahead or job.after:
            return False
        return self._rule.choose(job.direction, num_queued) is SwapMode.WAIT

    def num_blocks_to_begin(self, direction: SwapDirection, num_queued: int) -> int | None:
        """Blocks whose copies are worth beginning behind ``num_queued``; None: any number."""
        return None if self._rule is None else self._rule.num_blocks_to_begin(direction, num_queued)

    def add(self, report: SwapReport) -> None:
        """A job has landed."""
        if self._told and report.copy_done is not None:
            self._landed.append(report)

    def observe(self) -> None:
        """Tell of copies that are over; never waits for one."""
        reports, self._landed = self._landed, []
        for report in reports:
            assert report.copy_done is not None, "only such are added"
            try:
                over = report.copy_done.query()
            except RuntimeError:  # the device reports a failure: there is nothing to learn from it
                continue
            if not over:
                self._landed.append(report)
                continue
            for each in self._told:
                each.observe_copy(report.job.direction, report.job.num_blocks, report.copy_s)

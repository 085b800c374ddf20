"""The one error of a workload: a line that a user can act on."""

from __future__ import annotations

__all__ = ["WorkloadError"]


class WorkloadError(ValueError):
    """The caller's mistake in a file, a number or an option.

    The message is one line: where, the rule, the value, and the way out where there is one.
    """

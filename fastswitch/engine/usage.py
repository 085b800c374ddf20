"""The caller's mistakes: one line that says the rule, the value and the way out."""

from __future__ import annotations

__all__ = ["UsageError"]


class UsageError(ValueError):
    """Something that the caller can put right; the command line prints it in one line and exits with status 2."""

"""The caller's mistakes: one line that says the rule, the value and the way out."""

from __future__ import annotations

from pathlib import Path

__all__ = ["UsageError", "check_writable"]


class UsageError(ValueError):
    """Something that the caller can put right; the command line prints it in one line and exits with status 2."""


def check_writable(path: Path | None) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises:
        UsageError: if it cannot.
    """
    if path is None:
        return
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another path") from error
    if not existed:
        path.unlink(missing_ok=True)  # another process may have looked at the same moment

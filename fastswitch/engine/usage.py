"""The caller's mistakes: one line that says the rule, the value and the way out."""

from __future__ import annotations

import contextlib
import gzip
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

__all__ = ["UsageError", "check_distinct", "check_writable", "open_output", "writing"]


class UsageError(ValueError):
    """Something that the caller can put right; the command line prints it in one line and exits with status 2."""


def check_distinct(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path]) -> None:
    """Refuse a file that two options would write, or that one would write and another reads.

    Args:
        outputs: option |-> file to write.
        inputs: option |-> file to read.

    Raises:
        UsageError: naming both options.
    """
    written = {name: path for name, path in outputs.items() if path is not None}
    pairs = [*itertools.combinations(written.items(), 2), *itertools.product(inputs.items(), written.items())]
    for (one, path), (other, same) in pairs:
        if path.resolve() == same.resolve():
            flags = " and ".join("--" + name.replace("_", "-") for name in (one, other))
            raise UsageError(f"{flags} must be two files, got {path} twice")


def open_output(path: Path) -> IO[str]:
    """Open a text file to write, compressed if its name ends in ``.gz``."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "wt", encoding="utf-8")
    return path.open("w", encoding="utf-8")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around writing an output: what the disk refuses then is said in one line.

    Raises:
        UsageError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another path") from error


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

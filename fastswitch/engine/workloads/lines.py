"""The lines of a text file, plain or gzip, each with the place that an error names.

Whether a file is gzip is told by its first two bytes, never by its name. A line ends at a line feed; blank lines
are passed over. Everything that can be wrong with the bytes is wrong *here*: whoever reads on sees text.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["Line", "Place", "numbered_lines"]

_GZIP_MAGIC = b"\x1f\x8b"


class Place(NamedTuple):
    """A line of a file; lines count from 1."""

    path: Path
    line: int

    def error(self, message: str) -> WorkloadError:
        """Return an error that says ``message`` behind this place, as ``path:line: message``."""
        return WorkloadError(f"{self.path}:{self.line}: {message}")


class Line(NamedTuple):
    """The text of a line, without its end, and where it stands."""

    place: Place
    text: str


def numbered_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file that are not blank; the file is open until the iterator ends.

    Raises:
        WorkloadError: while iterating: no such file, a folder, unreadable, broken gzip, not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for place, raw in _numbered(path, _unpacked(file)):
                text = _decoded(place, raw)
                if text.strip():
                    yield Line(place, text)
    except FileNotFoundError:
        raise WorkloadError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise WorkloadError(f"{path}: is a folder; name a file in it") from None
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror or error})") from error


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(2)[:2] != _GZIP_MAGIC:
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file))


def _numbered(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[Place, bytes]]:
    line = 0
    try:
        for line, raw in enumerate(lines, start=1):
            yield Place(path, line), raw
    except EOFError:
        raise Place(path, line + 1).error("the gzip data ends early; the file is cut short, fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Place(path, line + 1).error(f"the gzip data is broken ({error}); fetch the file again") from None


def _decoded(place: Place, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if place.line == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise place.error(
            f"must be UTF-8 text, got byte 0x{byte:02x} at column {error.start + 1}; convert the file"
        ) from None

"""Priorities from a file: which conversation has which level from which update on.

Ours. CSV with a header that names the columns ``update``, ``conversation`` and ``level``, in any order and beside any
others, or JSON lines with these keys; plain or gzip. Update u is due when u / frequency iterations have run, update 0
at the start. Conversations count from 0 in the order of their first turns' arrivals. A level, 0 to 3, holds until the
next update that the file has for that conversation, on whatever line; before the first one it is 0.

    update,conversation,level
    0,0,3
    0,1,1
    4,0,0
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastswitch.engine.workloads.errors import WorkloadError
from fastswitch.engine.workloads.fields import shown
from fastswitch.engine.workloads.lines import Line, Place, numbered_lines
from fastswitch.sched import NUM_LEVELS, RecordedPriorities

__all__ = ["read_priorities"]

COLUMNS = ("update", "conversation", "level")
MOST = 10**9


def read_priorities(path: Path) -> RecordedPriorities:
    """The levels of a file.

    Raises:
        WorkloadError: it cannot be read, or a line is not what it must be; with the line's number.
    """
    levels: dict[int, dict[int, int]] = {}
    for place, record in _records(path):
        update, conversation = (_integer(place, name, record[name], MOST) for name in ("update", "conversation"))
        entries = levels.setdefault(conversation, {})
        if update in entries:
            raise place.error(f"conversation {conversation} has a level at update {update} already: leave one out")
        entries[update] = _integer(place, "level", record["level"], NUM_LEVELS - 1)
    if not levels:
        raise WorkloadError(f"{path}: holds no level; lines of {', '.join(COLUMNS)} say who has which one when")
    return RecordedPriorities(levels)


def _records(path: Path) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        return
    if first.text.lstrip().startswith("{"):
        yield _object(first)
        yield from map(_object, lines)
        return
    names = [name.strip() for name in _fields(first)]
    _check_names(first.place, names, "a header with the columns")
    for line in lines:
        fields = _fields(line)
        if len(fields) != len(names):
            raise line.place.error(f"must have {len(names)} fields as the header has, got {len(fields)}")
        yield line.place, dict(zip(names, fields, strict=True))


def _object(line: Line) -> tuple[Place, Mapping[str, Any]]:
    try:
        record = json.loads(line.text)
    except (ValueError, RecursionError):
        raise line.place.error(f"must be a JSON object a line, got {shown(line.text)}") from None
    if not isinstance(record, dict):
        raise line.place.error(f"must be a JSON object a line, got {shown(line.text)}")
    _check_names(line.place, list(record), "an object with the keys")
    return line.place, record


def _fields(line: Line) -> list[str]:
    try:
        return next(csv.reader([line.text], strict=True))
    except csv.Error as error:
        raise line.place.error(f"must be a line of CSV ({error}), got {shown(line.text)}") from None


def _check_names(place: Place, names: list[str], what: str) -> None:
    for name in COLUMNS:
        if names.count(name) != 1:
            raise place.error(f"must be {what} {', '.join(COLUMNS)}, got {shown(', '.join(names))}")


def _integer(place: Place, name: str, value: object, most: int) -> int:
    if isinstance(value, str):
        digits = value.strip()
        plain = digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST))
        number = int(digits) if plain else None
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None or not 0 <= number <= most:
        raise place.error(f"{name} must be an integer of 0 to {most}, got {shown(value)}")
    return number

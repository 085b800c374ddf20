"""Read a trace file into a workload.

The format is told by the file's own fields, never by its name: by the keys of the first JSON record, or by the header
of a table. Every later record must have the same fields. Arrivals are given from the first record's on and never
decrease. Nothing is repaired: whatever is wrong is an error of one line with its place.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from os import PathLike
from pathlib import Path

from fastswitch.engine.workloads.conversation import Conversation, Workload
from fastswitch.engine.workloads.errors import WorkloadError
from fastswitch.engine.workloads.fields import shown
from fastswitch.engine.workloads.formats import (
    JSON_FORMATS,
    KNOWN_FORMATS,
    Encode,
    JsonFormat,
    Record,
    table_record,
)
from fastswitch.engine.workloads.lines import Line, Place, numbered_lines
from fastswitch.engine.workloads.links import join_linked

__all__ = ["encode_utf8", "read_workload"]

_NEEDED_COLUMNS = ("input_tokens", "output_tokens")


def encode_utf8(text: str) -> list[int]:
    """Return the UTF-8 bytes of ``text`` as token ids of 0 to 255: an encoder that needs no tokenizer.

    >>> encode_utf8("hé")
    [104, 195, 169]
    """
    return list(text.encode())


def read_workload(path: str | PathLike[str], *, encode: Encode | None = None, seed: int = 0) -> Workload:
    """Read a trace, plain or gzip; a table of 45,000 requests takes about half a second.

    A length of 0 counts as 1. Formats: see `fastswitch.engine.workloads.formats`.

    Args:
        path: the file; its name becomes the workload's.
        encode: text |-> token ids, for formats that record text; without special tokens. None: `encode_utf8`.
        seed: of the tokens drawn where the source records lengths only.

    Raises:
        WorkloadError: if the file cannot be read, has an unknown format, or a record breaks a rule of its format.
    """
    path = Path(path)
    encode = encode or encode_utf8
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        raise WorkloadError(f"{path}: the file is empty; known are {KNOWN_FORMATS}")
    if first.text.lstrip().startswith("{"):
        records = list(_json_records(first, lines, encode))
    else:
        records = list(_table_records(first, lines))
    return Workload(path.name, seed, _conversations(join_linked(records)))


def _json_records(first: Line, lines: Iterator[Line], encode: Encode) -> Iterator[Record]:
    form = _json_format(first)
    for place, text in chain([first], lines):
        fields = _json_fields(place, text)
        missing = [name for name in form.fields if name not in fields]
        if missing:
            raise place.error(f"the record must have the fields {', '.join(form.fields)}; {missing[0]} is missing")
        yield form.read(place, fields, encode)


def _json_format(first: Line) -> JsonFormat:
    fields = _json_fields(first.place, first.text)
    for form in JSON_FORMATS:
        if fields.keys() >= set(form.fields):
            return form
    raise _unknown_format(first.place, list(fields))


def _json_fields(place: Place, text: str) -> Mapping[str, object]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise place.error(f"must be one JSON object, got a mistake at column {error.colno} ({error.msg})") from None
    except (ValueError, RecursionError):
        raise place.error("must be one JSON object, got one too deep or with too long a number") from None
    if not isinstance(fields, dict):
        raise place.error(f"must be one JSON object, got {shown(fields)}")
    return fields


def _table_records(header: Line, lines: Iterator[Line]) -> Iterator[Record]:
    names = [name.strip() for name in _csv_fields(*header)]
    if not set(_NEEDED_COLUMNS) <= set(names):
        raise _unknown_format(header.place, names)
    place = header.place
    for place, text in lines:
        fields = _csv_fields(place, text)
        if len(fields) != len(names):
            raise place.error(f"must have the {len(names)} fields {shown(', '.join(names))}, got {len(fields)}")
        yield table_record(place, dict(zip(names, fields, strict=True)))
    if place == header.place:
        raise place.error("a row must follow the header, got none")


def _csv_fields(place: Place, text: str) -> list[str]:
    try:
        return next(csv.reader((text,), strict=True))
    except csv.Error as error:
        raise place.error(f"must be one row of CSV ({error})") from None


def _unknown_format(place: Place, names: list[str]) -> WorkloadError:
    return place.error(f"unknown format with the fields {shown(', '.join(names))}; known are {KNOWN_FORMATS}")


def _conversations(records: list[Record]) -> tuple[Conversation, ...]:
    conversations = []
    start_s, last_s = records[0].arrival_s, records[0].arrival_s
    for index, record in enumerate(records):
        arrival_s = record.arrival_s
        if arrival_s is not None and start_s is not None and last_s is not None:
            if arrival_s < last_s:
                raise record.place.error(
                    f"arrivals must not decrease, got {arrival_s} s after {last_s} s; sort the file"
                )
            last_s, arrival_s = arrival_s, arrival_s - start_s
        conversations.append(Conversation(index, record.turns, arrival_s, record.client_id))
    return tuple(conversations)

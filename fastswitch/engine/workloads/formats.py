"""What each trace format records, read from one record at a time.

| format | records | made of |
|---|---|---|
| ShareGPT lengths | multi-turn lengths; tokens before the first message count to its input | ShareGPT V3 |
| Mooncake sessions | multi-turn lengths, arrivals, gaps | Mooncake's FAST'25 conversation trace |
| Mooncake requests | lengths with the history in the input, arrivals; which request went before, if linked | the same |
| agentic sessions | lengths with the history in the input, gaps | a coding assistant's sessions, kv-cache-tester |
| MT-Bench-101 | multi-turn text; a recorded answer gives a length only | MT-Bench-101 |
| table of requests | one-turn lengths, arrivals, clients | Azure 2023, VTC's arena trace, ShareGPT first turns |

A JSON format is told by the fields it needs, a table by its header; fields that no reader needs are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastswitch.engine.workloads.conversation import Turn
from fastswitch.engine.workloads.fields import (
    csv_client,
    csv_length,
    csv_seconds,
    json_length,
    json_seconds,
    json_text,
    shown,
)
from fastswitch.engine.workloads.lines import Place

__all__ = ["JSON_FORMATS", "KNOWN_FORMATS", "Encode", "JsonFormat", "Link", "Record", "table_record"]

Encode = Callable[[str], list[int]]  # text |-> token ids

NO_PARENT = -1  # how Mooncake's requests say that they are a first turn

KNOWN_FORMATS = (
    "JSON lines with (conv_id, lead_tokens, turns), (session_id, start_ms, turns), (session_id, parent, requests)"
    " or (row, task, turns), or with (timestamp, input_length, output_length),"
    " or CSV with (input_tokens, output_tokens) and, where recorded, (arrival_s, client_id)"
)


@dataclass(frozen=True, slots=True)
class Link:
    """Which request a record is, where a source names them, and which one it goes on from.

    Attributes:
        name: of this request.
        parent: of the one before it in its conversation; None for a first turn.
    """

    name: int
    parent: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation, or one request of it, as its source states it.

    Attributes:
        place: where it stands.
        turns: at least one.
        arrival_s: seconds on the source's clock, or None.
        client_id: or None.
        link: of a request that may belong to a conversation with others; None where the record is the whole of it.
    """

    place: Place
    turns: tuple[Turn, ...]
    arrival_s: float | None = None
    client_id: int | str | None = None
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A format of JSON lines.

    Attributes:
        fields: what every record has; tells the format.
        read: makes a `Record` of the fields, at a place, with an encoder for text.
    """

    fields: tuple[str, ...]
    read: Callable[[Place, Mapping[str, object], Encode], Record]


def table_record(place: Place, row: Mapping[str, str]) -> Record:
    """Read a row of a table of requests: a conversation of one turn.

    Raises:
        WorkloadError: if a field is not what it must be.
    """
    turn = _turn(
        csv_length(place, "input_tokens", row["input_tokens"]), csv_length(place, "output_tokens", row["output_tokens"])
    )
    arrival_s = csv_seconds(place, "arrival_s", row["arrival_s"]) if "arrival_s" in row else None
    return Record(place, (turn,), arrival_s, csv_client(place, row["client_id"]) if "client_id" in row else None)


def _sharegpt(place: Place, fields: Mapping[str, object], _: Encode) -> Record:
    lead = json_length(place, "lead_tokens", fields["lead_tokens"])
    turns = []
    for index, row in enumerate(_rows(place, fields, "user_tokens, assistant_tokens, user_chars, assistant_chars")):
        asked = json_length(place, f"user_tokens of turn {index}", row[0])
        answer = json_length(place, f"assistant_tokens of turn {index}", row[1])
        turns.append(_turn(max(1, asked) + (0 if index else lead), answer))
    return Record(place, tuple(turns))


def _mooncake(place: Place, fields: Mapping[str, object], _: Encode) -> Record:
    start_ms = json_seconds(place, "start_ms", fields["start_ms"])
    turns = []
    for index, row in enumerate(_rows(place, fields, "chat_id, input_length, new_tokens, output_length, gap_s")):
        new = json_length(place, f"new_tokens of turn {index}", row[2])
        answer = json_length(place, f"output_length of turn {index}", row[3])
        turns.append(_turn(new, answer, json_seconds(place, f"gap_s of turn {index}", row[4]) if index else None))
    return Record(place, tuple(turns), start_ms / 1000)


def _mooncake_request(place: Place, fields: Mapping[str, object], _: Encode) -> Record:
    turn = _turn(
        json_length(place, "input_length", fields["input_length"]),
        json_length(place, "output_length", fields["output_length"]),
    )
    arrival_s = json_seconds(place, "timestamp", fields["timestamp"]) / 1000
    if "chat_id" not in fields or "parent_chat_id" not in fields:
        return Record(place, (turn,), arrival_s)
    name = json_length(place, "chat_id", fields["chat_id"])
    first = fields["parent_chat_id"] == NO_PARENT
    parent = None if first else json_length(place, "parent_chat_id", fields["parent_chat_id"])
    return Record(place, (turn,), arrival_s, link=Link(name, parent))


def _agentic(place: Place, fields: Mapping[str, object], _: Encode) -> Record:
    """A turn's new tokens are those beyond the history; one that was compacted stays, until the input outgrows it."""
    requests = fields["requests"]
    if not isinstance(requests, list) or not requests:
        raise place.error(f"requests must be a list of at least one request, got {shown(requests)}")
    turns: list[Turn] = []
    history, before_s = 0, 0.0
    for index, request in enumerate(requests):
        if not isinstance(request, dict) or not request.keys() >= {"t", "in", "out"}:
            raise place.error(f"request {index} must have the fields t, in, out, got {shown(request)}")
        when_s = json_seconds(place, f"t of request {index}", request["t"])
        if when_s < before_s:
            raise place.error(f"t must not decrease, got {when_s} s after {before_s} s at request {index}")
        whole = json_length(place, f"in of request {index}", request["in"])
        answer = json_length(place, f"out of request {index}", request["out"])
        turns.append(_turn(whole - history, answer, when_s - before_s if index else None))
        history += turns[-1].input_tokens + turns[-1].output_tokens
        before_s = when_s
    return Record(place, tuple(turns))


def _mtbench101(place: Place, fields: Mapping[str, object], encode: Encode) -> Record:
    turns = []
    for index, row in enumerate(_rows(place, fields, "user, assistant")):
        text = json_text(place, f"user text of turn {index}", row[0])
        answer = encode(json_text(place, f"assistant text of turn {index}", row[1]))
        tokens = tuple(encode(text))
        # a message without tokens still takes one, which is then drawn
        turns.append(Turn(len(tokens), max(1, len(answer)), None, text, tokens) if tokens else _turn(0, len(answer)))
    return Record(place, tuple(turns))


def _rows(place: Place, fields: Mapping[str, object], names: str) -> Sequence[Sequence[object]]:
    turns = fields["turns"]
    if not isinstance(turns, list) or not turns:
        raise place.error(f"turns must be a list of at least one turn, got {shown(turns)}")
    for index, row in enumerate(turns):
        if not isinstance(row, list) or len(row) != names.count(",") + 1:
            raise place.error(f"turn {index} must be [{names}], got {shown(row)}")
    return turns


def _turn(asked: int, answer: int, gap_s: float | None = None) -> Turn:
    return Turn(max(1, asked), max(1, answer), gap_s)


JSON_FORMATS = (
    JsonFormat(("conv_id", "lead_tokens", "turns"), _sharegpt),
    JsonFormat(("session_id", "start_ms", "turns"), _mooncake),
    JsonFormat(("session_id", "parent", "requests"), _agentic),
    JsonFormat(("row", "task", "turns"), _mtbench101),
    JsonFormat(("timestamp", "input_length", "output_length"), _mooncake_request),
)

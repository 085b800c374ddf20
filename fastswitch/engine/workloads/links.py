"""Joins requests that a trace records one by one into the conversations that they were.

A request that names the one before it, whose input and answer its own input begins with, is that conversation's next
turn: what it adds is new, and it follows after the recorded gap. Ours: where two requests name the same one, the first
goes on with the conversation, and the other begins one of its own with its whole input.
"""

from __future__ import annotations

from dataclasses import replace

from fastswitch.engine.workloads.conversation import Turn
from fastswitch.engine.workloads.formats import Record

__all__ = ["join_linked"]


def join_linked(records: list[Record]) -> list[Record]:
    """Return the records with each linked request moved to the end of the conversation that it goes on with.

    The order of first turns is kept. Records without links come back as they are.
    """
    joined: list[Record] = []
    last_of: dict[
        int | None, tuple[int, float]
    ] = {}  # name of a conversation's last request |-> its index, its arrival
    for record in records:
        link, arrival_s = record.link, record.arrival_s
        if link is None or arrival_s is None:
            joined.append(record)
            continue
        before = last_of.get(link.parent)
        if before is not None and _goes_on(joined[before[0]], record):
            index, before_s = before
            joined[index] = _with_turn(joined[index], record, arrival_s - before_s)
            del last_of[link.parent]
        else:
            index = len(joined)
            joined.append(record)
        last_of[link.name] = index, arrival_s
    return joined


def _context_len(record: Record) -> int:
    return sum(turn.input_tokens + turn.output_tokens for turn in record.turns)


def _goes_on(conversation: Record, request: Record) -> bool:
    return request.turns[0].input_tokens >= _context_len(conversation)


def _with_turn(conversation: Record, request: Record, gap_s: float) -> Record:
    turn = request.turns[0]
    new_tokens = max(1, turn.input_tokens - _context_len(conversation))
    return replace(conversation, turns=(*conversation.turns, Turn(new_tokens, turn.output_tokens, gap_s)))

"""Take from a workload the conversations of a run, and scale their lengths.

In this order: drop short conversations, choose how many, scale, number anew from 0. Where the source records
arrivals the first ones are taken, since their order and spacing mean something; else conversations are drawn with
replacement, so that any number can be had. One that is drawn twice gets other random tokens each time.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fastswitch.engine.workloads.conversation import Conversation, Turn, Workload
from fastswitch.engine.workloads.draws import Purpose, stream
from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["select"]


def select(
    workload: Workload,
    *,
    conversations: int | None = None,
    min_turns: int | None = None,
    scale: float = 1.0,
    seed: int = 0,
) -> Workload:
    """Return the chosen conversations, renumbered, as a workload with ``seed``.

    Args:
        workload: left as it is.
        conversations: how many; all where None. More than the source has only where it records no arrivals.
        min_turns: shorter conversations are dropped first.
        scale: multiplies every length, rounded (half to even), at least 1. Of a text the first scaled n tokens are
            kept, and it never grows.
        seed: of the draw, and of the new workload.

    Raises:
        WorkloadError: if an option is out of range, no conversation is long enough, there are too few, or a scaled
            length exceeds `MAX_TOKENS`.

    >>> from fastswitch.engine.workloads import synthetic_workload
    >>> small = select(synthetic_workload(conversations=100), conversations=8, min_turns=3, scale=0.05, seed=1)
    >>> len(small), small.seed
    (8, 1)
    """
    if not 0 < scale < math.inf:
        raise WorkloadError(f"scale must be a finite number above 0, got {scale}")
    chosen = _chosen(workload, _long_enough(workload, min_turns), conversations, seed)
    numbered = (replace(conversation, index=index) for index, conversation in enumerate(chosen))
    return Workload(workload.name, seed, tuple(_scaled(conversation, scale) for conversation in numbered))


def _long_enough(workload: Workload, min_turns: int | None) -> list[Conversation]:
    if min_turns is None:
        return list(workload.conversations)
    if min_turns < 1:
        raise WorkloadError(f"min_turns must be at least 1, got {min_turns}")
    kept = [conversation for conversation in workload.conversations if len(conversation.turns) >= min_turns]
    if not kept:
        longest = max(len(conversation.turns) for conversation in workload.conversations)
        raise WorkloadError(
            f"min_turns {min_turns} leaves none of the {len(workload)} conversations of {workload.name};"
            f" the longest has {longest} {'turn' if longest == 1 else 'turns'}"
        )
    return kept


def _chosen(workload: Workload, kept: list[Conversation], wanted: int | None, seed: int) -> list[Conversation]:
    if wanted is None:
        return kept
    if wanted < 1:
        raise WorkloadError(f"conversations must be at least 1, got {wanted}")
    if not workload.records_arrivals:
        return [kept[drawn] for drawn in stream(seed, Purpose.SELECTION).integers(0, len(kept), size=wanted)]
    if wanted > len(kept):
        raise WorkloadError(
            f"need {wanted} conversations, {workload.name} has {len(kept)} long enough;"
            " it records arrivals, so none is used twice: ask for fewer"
        )
    return kept[:wanted]


def _scaled(conversation: Conversation, scale: float) -> Conversation:
    if scale == 1:
        return conversation
    return replace(conversation, turns=tuple(_scaled_turn(turn, scale) for turn in conversation.turns))


def _scaled_turn(turn: Turn, scale: float) -> Turn:
    asked, answer = _scaled_length(turn.input_tokens, scale), _scaled_length(turn.output_tokens, scale)
    if turn.text_tokens is None:
        return replace(turn, input_tokens=asked, output_tokens=answer)
    tokens = turn.text_tokens[:asked]
    text = turn.text if len(tokens) == turn.input_tokens else None
    return replace(turn, input_tokens=len(tokens), output_tokens=answer, text=text, text_tokens=tokens)


def _scaled_length(tokens: int, scale: float) -> int:
    return max(1, round(min(tokens * scale, 2.0**53)))

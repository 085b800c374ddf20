"""Priorities that somebody wrote down: each conversation's level from one update on, until the next one that says so.

Ours. Where they come from, a file for instance, is the caller's matter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping

from fastswitch.sched.priority import NUM_LEVELS

__all__ = ["RecordedPriorities"]


class RecordedPriorities:
    """Levels from a record; satisfies ``Priorities``. A conversation has level 0 until the record says otherwise.

    >>> recorded = RecordedPriorities({5: {0: 2, 10: 1}})
    >>> [recorded.level(5, update) for update in (0, 9, 10, 99)], recorded.level(6, 10)
    ([2, 2, 1, 1], 0)

    Args:
        levels: conversation index |-> {update index |-> level from then on}.

    Raises:
        ValueError: if an index is negative, or a level outside ``[0, NUM_LEVELS)``.
    """

    def __init__(self, levels: Mapping[int, Mapping[int, int]]) -> None:
        for conversation, entries in levels.items():
            for update, level in entries.items():
                if conversation < 0 or update < 0:
                    raise ValueError(f"indices must not be negative, got conversation {conversation}, update {update}")
                if not 0 <= level < NUM_LEVELS:
                    raise ValueError(f"a level must be 0 to {NUM_LEVELS - 1}, got {level}")
        # conversation index |-> (updates, in order; levels from these on)
        self._stays = {
            conversation: (sorted(entries), [entries[update] for update in sorted(entries)])
            for conversation, entries in levels.items()
        }

    @property
    def num_conversations(self) -> int:
        """One more than the last conversation that the record names; 0 if it names none."""
        return max(self._stays, default=-1) + 1

    def level(self, conversation_index: int, update_index: int) -> int:
        """What the record says last up to that update. O(log entries)."""
        updates, levels = self._stays.get(conversation_index, ((), ()))
        position = bisect_right(updates, update_index)
        return levels[position - 1] if position else 0

    def levels(self, conversation_indices: Iterable[int], update_index: int) -> list[int]:
        """``level`` of each conversation."""
        return [self.level(conversation, update_index) for conversation in conversation_indices]

"""A workload for a GPU that is lent by the minute: conversations about documents, long contexts and short answers.

ShareGPT's answers are longer than its questions, so a context of 600 tokens takes 500 iterations. Here a context is a
document of 128 to 1,024 tokens with two to four questions of 8 to 64 and answers of 8 to 40, all drawn uniformly: a
few hundred iterations with hundreds of switches of some 40 blocks. It stands for no recorded trace.

``python benchmarks/documents.py > benchmarks/documents.jsonl`` writes the file that ``make gpu`` reads, in the format
of ShareGPT lengths.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

__all__ = ["conversations"]

CONVERSATIONS = 80


def conversations() -> Iterator[str]:
    """One line of JSON a conversation; always the same."""
    draw = random.Random(0).randint
    for index in range(CONVERSATIONS):
        # [tokens of the question, of the answer]; characters are not drawn
        turns = [[draw(8, 64), draw(8, 40), 0, 0] for _ in range(draw(2, 4))]
        yield json.dumps({"conv_id": index, "lead_tokens": draw(128, 1024), "turns": turns})


if __name__ == "__main__":
    print("\n".join(conversations()))

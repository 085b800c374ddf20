"""A workload: conversations, their turns, and how many tokens each turn brings and asks for.

A turn counts its *new* input tokens; the engine puts the conversation's history before them. Output lengths are the
recorded ones. Most sources record lengths only: their tokens are drawn, from (seed, conversation, turn) alone.
Invariants, checked when built: every length is 1 to `MAX_TOKENS`; no conversation or workload is empty; a
conversation's index is its position; either every conversation has an arrival or none has.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastswitch.engine.workloads.draws import Purpose, stream
from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["MAX_TOKENS", "Conversation", "Turn", "Workload"]

MAX_TOKENS = 2**31 - 1  # longest length in tokens that a turn may state


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and the length of its answer.

    Attributes:
        input_tokens: new tokens of this turn, without the history before them.
        output_tokens: tokens to generate.
        gap_s: recorded seconds since the previous turn's arrival; None where not recorded, as for a first turn.
        text: the user's message; None where only its length is known, or where it was cut to fewer tokens.
        text_tokens: the message's token ids, ``input_tokens`` of them; None where only its length is known.

    Raises:
        WorkloadError: if a length is outside 1 to `MAX_TOKENS`, or the ids are not ``input_tokens`` many.
    """

    input_tokens: int
    output_tokens: int
    gap_s: float | None = None
    text: str | None = None
    text_tokens: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.input_tokens <= MAX_TOKENS:
            raise WorkloadError(f"input_tokens must be 1 to {MAX_TOKENS}, got {self.input_tokens}")
        if not 1 <= self.output_tokens <= MAX_TOKENS:
            raise WorkloadError(f"output_tokens must be 1 to {MAX_TOKENS}, got {self.output_tokens}")
        if self.text_tokens is not None and len(self.text_tokens) != self.input_tokens:
            raise WorkloadError(f"text_tokens must be input_tokens = {self.input_tokens}, got {len(self.text_tokens)}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns that share a history.

    Attributes:
        index: position in the workload; names the conversation's random draws.
        turns: in order, at least one.
        arrival_s: recorded arrival of the first turn, in seconds since the file's first; None where not recorded.
        client_id: who asks; None where not recorded.

    Raises:
        WorkloadError: if there are no turns.

    >>> Conversation(0, (Turn(100, 20), Turn(5, 30))).context_len
    155
    """

    index: int
    turns: tuple[Turn, ...]
    arrival_s: float | None = None
    client_id: int | str | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise WorkloadError(f"conversation {self.index} must have at least one turn, got none")

    @property
    def context_len(self) -> int:
        """Tokens of all turns, input and output: the context after the last one."""
        return self.input_tokens + self.output_tokens

    @property
    def input_tokens(self) -> int:
        """New input tokens of all turns; no history is counted twice."""
        return sum(turn.input_tokens for turn in self.turns)

    @property
    def output_tokens(self) -> int:
        """Tokens to generate in all turns."""
        return sum(turn.output_tokens for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Workload:
    """Conversations to serve, with the seed of everything drawn for them.

    Attributes:
        name: the file's name, or ``synthetic``; for reports.
        seed: at least 0.
        conversations: in order of index, at least one.

    Raises:
        WorkloadError: if an invariant of the module does not hold.

    >>> workload = Workload("two", 0, (Conversation(0, (Turn(100, 20),)), Conversation(1, (Turn(5, 3), Turn(1, 1)))))
    >>> workload.num_turns, workload.max_context, workload.peak_demand_blocks(16)
    (3, 120, 9)
    """

    name: str
    seed: int
    conversations: tuple[Conversation, ...]

    def __post_init__(self) -> None:
        if not self.conversations:
            raise WorkloadError(f"workload {self.name} must have at least one conversation, got none")
        for position, conversation in enumerate(self.conversations):
            if conversation.index != position:
                raise WorkloadError(
                    f"conversation at position {position} must have that index, got {conversation.index}"
                )
        recorded = sum(conversation.arrival_s is not None for conversation in self.conversations)
        if recorded not in {0, len(self.conversations)}:
            raise WorkloadError(f"all conversations or none must have an arrival, {recorded} of {len(self)} have one")

    def __len__(self) -> int:
        return len(self.conversations)

    @property
    def num_turns(self) -> int:
        """Turns of all conversations."""
        return sum(len(conversation.turns) for conversation in self.conversations)

    @property
    def input_tokens(self) -> int:
        """New input tokens of all turns."""
        return sum(conversation.input_tokens for conversation in self.conversations)

    @property
    def output_tokens(self) -> int:
        """Tokens to generate in all turns."""
        return sum(conversation.output_tokens for conversation in self.conversations)

    @property
    def max_context(self) -> int:
        """Tokens of the longest conversation."""
        return max(conversation.context_len for conversation in self.conversations)

    @property
    def records_arrivals(self) -> bool:
        """Whether the source says when conversations arrived."""
        return self.conversations[0].arrival_s is not None

    @property
    def records_clients(self) -> bool:
        """Whether it is known, of any conversation, who asks."""
        return any(conversation.client_id is not None for conversation in self.conversations)

    @property
    def client_ids(self) -> tuple[int | str | None, ...]:
        """Everybody who asks, in order of the first conversation; None asks where nobody is recorded."""
        return tuple(dict.fromkeys(conversation.client_id for conversation in self.conversations))

    @property
    def records_gaps(self) -> bool:
        """Whether the source says, for any turn, how long after the previous one it arrived."""
        return any(turn.gap_s is not None for conversation in self.conversations for turn in conversation.turns)

    def peak_demand_blocks(self, block_size: int) -> int:
        """Blocks to hold every conversation at its longest, each in whole blocks of ``block_size`` tokens.

        Raises:
            WorkloadError: if ``block_size`` is below 1.
        """
        if block_size < 1:
            raise WorkloadError(f"block_size must be at least 1, got {block_size}")
        return sum(-(-conversation.context_len // block_size) for conversation in self.conversations)

    def prompt_tokens(self, conversation: int, turn: int, vocab_size: int) -> list[int]:
        """Token ids of a turn's new input: its text's own where it has text, else drawn uniformly.

        A draw depends on (seed, conversation, turn) and ``vocab_size`` alone.

        Args:
            conversation: index of the conversation.
            turn: index of the turn in it.
            vocab_size: ids are in ``[0, vocab_size)``.

        Raises:
            WorkloadError: if ``vocab_size`` is below 1, or the text has an id outside the vocabulary.
        """
        if vocab_size < 1:
            raise WorkloadError(f"vocab_size must be at least 1, got {vocab_size}")
        asked = self.conversations[conversation].turns[turn]
        if asked.text_tokens is None:
            rng = stream(self.seed, Purpose.TOKENS, conversation, turn)
            drawn: list[int] = rng.integers(0, vocab_size, size=asked.input_tokens).tolist()
            return drawn
        outside = [token for token in asked.text_tokens if not 0 <= token < vocab_size]
        if outside:
            raise WorkloadError(
                f"token {outside[0]} of conversation {conversation}, turn {turn} is outside the vocabulary of"
                f" {vocab_size}; encode the text with the model's own tokenizer"
            )
        return list(asked.text_tokens)

    def summary(self) -> dict[str, int | float | str]:
        """Return the figures of a report, ready for JSON; lengths in tokens, ``input_tokens`` counts new ones."""
        return {
            "name": self.name,
            "seed": self.seed,
            "conversations": len(self),
            "turns": self.num_turns,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "mean_turns": self.num_turns / len(self),
            "max_context_tokens": self.max_context,
        }

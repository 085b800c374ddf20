"""A request: one conversation with at most one turn to compute, and the unit that is scheduled.

Ours. Between two turns it is idle: it has nothing to compute, ranks last, and leaves the device when somebody needs the
room; no second mechanism serves multi-turn conversations. Everything about its KV is asked of the manager.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastswitch.engine.history import TokenHistory
from fastswitch.memory import KVCacheManager, SwapJob
from fastswitch.sched import RequestState

__all__ = ["Request", "Turn"]

_RUNNING = RequestState.RUNNING


@dataclass(slots=True, eq=False)
class Turn:
    """One input and its answer.

    Attributes:
        turn_id: what ``Engine.submit`` returned.
        request_id: its conversation's request.
        prompt: the turn's new tokens.
        max_new_tokens: tokens to generate.
        arrival: seconds of the engine's clock.
        generated: the answer so far.
        token_times: when each of its tokens came out.
        switched: for each of its tokens, whether the request was off the device at some time since the one before.
        admitted: has held device memory.
        ended: finished or cancelled.
    """

    turn_id: int
    request_id: int
    prompt: Sequence[int]
    max_new_tokens: int
    arrival: float
    generated: list[int] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    switched: list[bool] = field(default_factory=list)
    admitted: bool = False
    ended: bool = False


@dataclass(slots=True, eq=False)
class Request:
    """What the engine knows of a conversation; satisfies ``sched.RequestView`` and ``TokenSource``.

    Attributes:
        tokens: history, prompt and generated tokens; the newest one has no KV yet.
        num_tokens: how many those are.
        room: tokens that it has device room for, while it runs; ``take_stock`` looks.
        valid_len: tokens whose KV on the device is right, while it runs; raised with each commit.
        turn: the turn that is computed now; None while idle.
        queued: turns that arrived before the current one ended.
        job: the copy under way.
        ahead: the copy under way that was begun ahead.
        protected: came in, and has neither a token nor KV that it never had to show for it.
        suspended: held off the device by its owner.
        left_device: was evicted since its last token.
        num_tokens_before: tokens known when it came in.
        short_stays: times in a row that it was pushed out again having made no more than the one token it is due.
        high_water: tokens whose KV existed once; computing below it is recomputing.
        charged: tokens that its client was charged for, prompts and answers alike.
        turn_ended: when the turn before ended, in seconds of the engine's clock.
        ending: release it when the running turn ends.
    """

    request_id: int
    conversation_id: Hashable
    client_id: Hashable
    kv: KVCacheManager
    arrival: float
    priority: int | None = None
    state: RequestState = RequestState.WAITING
    idle_since: float | None = None
    tokens: TokenHistory = field(default_factory=TokenHistory)
    num_tokens: int = 0
    room: int = 0
    valid_len: int = 0
    turn: Turn | None = None
    queued: deque[Turn] = field(default_factory=deque)
    job: SwapJob | None = None
    ahead: SwapJob | None = None
    protected: bool = False
    suspended: bool = False
    left_device: bool = False
    num_tokens_before: int = 0
    short_stays: int = 0
    high_water: int = 0
    charged: int = 0
    turn_ended: float = 0.0
    ending: bool = False

    def run(self) -> None:
        """It is on the device, with something to compute."""
        self.state = RequestState.RUNNING
        self.valid_len = self.kv.device_valid_len(self.request_id)
        self.take_stock()

    def take_stock(self) -> None:
        """Look at the device room that it has: after each change of it, while it runs."""
        self.room = self.kv.device_blocks(self.request_id) * self.kv.block_size

    def start(self, turn: Turn) -> None:
        """Take up a turn: its prompt joins the history, and its answer as it grows."""
        self.turn = turn
        self.tokens.add(turn.prompt)
        self.tokens.add(turn.generated)
        self.num_tokens += len(turn.prompt)

    def emit(self, turn: Turn, token: int, now: float) -> int:
        """The next token of the turn, its current one, came out; how many there are now."""
        generated = turn.generated
        generated.append(token)
        turn.token_times.append(now)
        turn.switched.append(self.left_device)
        self.num_tokens += 1
        self.left_device = False
        return len(generated)

    def token_ids(self, start: int, end: int) -> list[int]:
        """The tokens at positions ``[start, end)``."""
        return self.tokens.span(start, end)

    @property
    def block_table(self) -> NDArray[np.int32]:
        """Its device block ids in token order, int32 ``[n]``."""
        return self.kv.block_table(self.request_id)

    @property
    def device_valid_len(self) -> int:
        """Tokens whose KV on the device is right."""
        if self.state is _RUNNING:  # asked about for each token, so the manager is not
            return self.valid_len
        return self.kv.device_valid_len(self.request_id)

    @property
    def host_valid_len(self) -> int:
        """Tokens whose KV on the host is right."""
        return self.kv.host_valid_len(self.request_id)

    @property
    def device_blocks(self) -> int:
        """Device blocks that it holds."""
        if self.state is _RUNNING:
            return self.room // self.kv.block_size
        return self.kv.device_blocks(self.request_id)

    @property
    def dirty_blocks(self) -> int:
        """Blocks that its eviction would have to copy."""
        return self.kv.dirty_blocks(self.request_id)

    @property
    def missing_blocks(self) -> int:
        """Blocks that its return would have to copy."""
        return self.kv.missing_blocks(self.request_id)

    @property
    def host_blocks(self) -> int:
        """Host blocks that it holds."""
        return self.kv.host_blocks(self.request_id)

    @property
    def host_blocks_needed(self) -> int:
        """Host blocks that its swap-out would take beyond those."""
        return self.kv.host_blocks_needed(self.request_id)

    @property
    def num_prompt_tokens(self) -> int:
        """New tokens of the current turn."""
        return 0 if self.turn is None else len(self.turn.prompt)

    @property
    def admitted(self) -> bool:
        """Whether the current turn has held device memory."""
        return self.turn is not None and self.turn.admitted

    @property
    def tokens_since_placed(self) -> int:
        """Tokens that joined it since it came in."""
        return self.num_tokens - self.num_tokens_before

    @property
    def pinned(self) -> bool:
        """Whether a copy that was begun ahead is under way."""
        return self.ahead is not None

    @property
    def blocks_needed(self) -> int:
        """Blocks that it lacks for all its known tokens; 0 while it has nothing to compute."""
        if self.turn is None:
            return 0
        if self.state is _RUNNING:  # asked about all the time, so the manager is not
            short = self.num_tokens - self.room
            return -(-short // self.kv.block_size) if short > 0 else 0
        return max(0, -(-self.num_tokens // self.kv.block_size) - self.kv.device_blocks(self.request_id))

"""What a policy may see: requests and pools, read-only.

Ours. ``RequestView`` is a Protocol that an engine's own request class satisfies, so no copy is made each step.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["PoolView", "RequestState", "RequestView", "Room"]


class RequestState(enum.Enum):
    """Where a request stands; it holds device blocks for sure in ``RUNNING``, ``SWAPPING_*`` and ``IDLE``."""

    WAITING = "waiting"  # nothing on either tier that it could resume from
    RUNNING = "running"  # resident, and has tokens to compute
    SWAPPING_OUT = "swapping_out"
    SWAPPED = "swapped"  # evicted; its device blocks stay, clean, until somebody needs the room
    SWAPPING_IN = "swapping_in"
    IDLE = "idle"  # resident, between two turns of its conversation
    FINISHED = "finished"


class RequestView(Protocol):
    """One request, the unit scheduled: a conversation with at most one turn to compute."""

    @property
    def request_id(self) -> int:
        """Unique; breaks ties."""

    @property
    def client_id(self) -> Hashable:
        """Who sent it."""

    @property
    def state(self) -> RequestState:
        """Where it stands."""

    @property
    def priority(self) -> int | None:
        """Level, a smaller one is served first; None until the ranker has drawn one."""

    @property
    def arrival(self) -> float:
        """When its current turn arrived, in seconds of the engine's clock."""

    @property
    def num_prompt_tokens(self) -> int:
        """New tokens that its current turn brought; 0 while it has none."""

    @property
    def admitted(self) -> bool:
        """Whether its current turn has held device memory, be it that it was pushed out since."""

    @property
    def idle_since(self) -> float | None:
        """When its last turn ended, if it has nothing to compute now."""

    @property
    def num_tokens(self) -> int:
        """Tokens known: history, prompt and what was generated; the last sampled one has no KV yet."""

    @property
    def device_valid_len(self) -> int:
        """Tokens whose KV on the device is right."""

    @property
    def host_valid_len(self) -> int:
        """Tokens whose KV on the host is right."""

    @property
    def device_blocks(self) -> int:
        """Device blocks that it holds."""

    @property
    def dirty_blocks(self) -> int:
        """Blocks that its eviction would have to copy."""

    @property
    def missing_blocks(self) -> int:
        """Blocks that its return would have to copy."""

    @property
    def host_blocks(self) -> int:
        """Host blocks that it holds; while it is resident they count as room for others' swap-outs, not for its own."""

    @property
    def host_blocks_needed(self) -> int:
        """Host blocks that its swap-out would take beyond those that it holds."""

    @property
    def blocks_needed(self) -> int:
        """Blocks that it lacks for all its known tokens: the whole prompt, or the next step's token."""

    @property
    def protected(self) -> bool:
        """Whether it came in and has not made a productive step since: it may not leave."""

    @property
    def tokens_since_placed(self) -> int:
        """While it is on the device: tokens that joined it since it came in, generated ones and later prompts."""

    @property
    def pinned(self) -> bool:
        """Whether a copy of it that was begun ahead is under way: until that has landed it neither leaves nor comes."""


class Room(Protocol):
    """Blocks by what can be done with them. Each is asked for at most once in a decision, and only if it counts."""

    @property
    def free(self) -> int:
        """Device blocks that nobody holds."""

    @property
    def clean(self) -> int:
        """Device blocks of evicted requests whose host copy is valid: free for the asking."""

    @property
    def vacating(self) -> int:
        """Device blocks that become clean when the swap-outs under way land."""

    @property
    def host_free(self) -> int:
        """Host blocks that swap-outs can have: nobody's, or held by residents and others who may lose them."""

    @property
    def copy_in(self) -> int | None:
        """Blocks that returns may begin to copy: more would only stand in the queue. None: any number."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """A `Room` as a value.

    Attributes:
        free: device blocks that nobody holds.
        clean: device blocks of evicted requests whose host copy is valid: free for the asking.
        vacating: device blocks that become clean when the swap-outs under way land.
        host_free: host blocks that swap-outs can have: nobody's, or held by residents and others who may lose them.
        copy_in: blocks that returns may begin to copy; None: any number.
    """

    free: int
    clean: int
    vacating: int
    host_free: int
    copy_in: int | None = None

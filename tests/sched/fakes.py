"""A request as a plain record."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fastswitch.sched import PoolView, RequestState


@dataclass(slots=True)
class FakeRequest:
    """Satisfies `RequestView`; ``arrival`` defaults to the id, so that FCFS ranks by id."""

    request_id: int
    state: RequestState = RequestState.WAITING
    blocks_needed: int = 0
    device_blocks: int = 0
    dirty_blocks: int = 0
    protected: bool = False
    idle_since: float | None = None
    priority: int | None = None
    arrival: float = -1.0
    num_tokens: int = 1
    device_valid_len: int = 0
    host_valid_len: int = 0
    client_id: Hashable = None
    host_blocks: int = 0
    missing_blocks: int = 0
    pinned: bool = False
    tokens_since_placed: int = 0
    num_prompt_tokens: int = 0
    admitted: bool = False

    @property
    def host_blocks_needed(self):
        return self.dirty_blocks

    def __post_init__(self):
        if self.arrival < 0:
            self.arrival = float(self.request_id)


def waiting(request_id, blocks_needed, **fields):
    return FakeRequest(request_id, RequestState.WAITING, blocks_needed, **fields)


def swapped(request_id, blocks_needed, device_blocks=0, **fields):
    return FakeRequest(request_id, RequestState.SWAPPED, blocks_needed, device_blocks, **fields)


def swapping_out(request_id, blocks_needed, device_blocks, **fields):
    return FakeRequest(request_id, RequestState.SWAPPING_OUT, blocks_needed, device_blocks, **fields)


def running(request_id, device_blocks, blocks_needed=0, *, dirty=None, **fields):
    dirty = device_blocks if dirty is None else dirty
    return FakeRequest(request_id, RequestState.RUNNING, blocks_needed, device_blocks, dirty, **fields)


def idle(request_id, device_blocks, since, *, dirty=0, **fields):
    return FakeRequest(request_id, RequestState.IDLE, 0, device_blocks, dirty, idle_since=since, **fields)


def pools(free=0, clean=0, vacating=0, host_free=1000, copy_in=None):
    return PoolView(free, clean, vacating, host_free, copy_in)

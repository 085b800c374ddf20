"""Queues of device work and the facts recorded in them, for a CPU and for CUDA; tests bring one that is lazy.

Ours. A stream runs its work in order; an event says that everything enqueued on its stream before ``record`` is done.
On a CPU work runs as it is enqueued, so every event is done when it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from fastswitch.engine.clock import Clock

__all__ = ["CudaStreams", "Event", "HostStreams", "Stream", "Streams", "streams_for"]

T = TypeVar("T")


class Event(Protocol):
    """A fact about a stream. Recorded once, never reused."""

    def query(self) -> bool:
        """Whether it has come true; never blocks."""

    def synchronize(self) -> None:
        """Block the calling thread until it is true."""

    def seconds_since(self, earlier: Any) -> float:
        """Seconds from ``earlier``, an event of the same kind; both must be true."""


class Stream(Protocol):
    """Work in order."""

    def run(self, work: Callable[[], T]) -> T:
        """Enqueue ``work``; on a device the call returns when it is enqueued, not when it is done."""

    def wait(self, event: Any) -> None:
        """Work enqueued from now on starts after ``event`` is true."""

    def record(self) -> Event:
        """An event for all work enqueued so far."""


class Streams(Protocol):
    """The three streams of an engine."""

    @property
    def compute(self) -> Stream:
        """The calling thread's current compute stream."""

    @property
    def swap_out(self) -> Stream:
        """Copies from the device to the host."""

    @property
    def swap_in(self) -> Stream:
        """Copies from the host to the device."""


@dataclass(frozen=True, slots=True)
class _HostEvent:
    when: float

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        return

    def seconds_since(self, earlier: _HostEvent) -> float:
        return self.when - earlier.when


class _HostStream:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def run(self, work: Callable[[], T]) -> T:
        return work()

    def wait(self, event: Event) -> None:
        event.synchronize()

    def record(self) -> _HostEvent:
        return _HostEvent(self._clock.now())


class HostStreams:
    """Streams of a CPU: work runs on the thread that enqueues it.

    Args:
        clock: stamps the events.
    """

    def __init__(self, clock: Clock) -> None:
        self.compute = self.swap_out = self.swap_in = _HostStream(clock)


class _CudaEvent:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def query(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]

    def synchronize(self) -> None:
        self.event.synchronize()

    def seconds_since(self, earlier: _CudaEvent) -> float:
        return float(earlier.event.elapsed_time(self.event)) / 1e3


class _CudaStream:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def run(self, work: Callable[[], T]) -> T:
        with torch.cuda.stream(self._stream):
            return work()

    def wait(self, event: _CudaEvent) -> None:
        self._stream.wait_event(event.event)

    def record(self) -> _CudaEvent:
        return _CudaEvent(self._stream)


class CudaStreams:
    """Streams of one CUDA device; the copies have one stream a direction.

    Args:
        device: where the pool lives.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.swap_out = _CudaStream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        self.swap_in = _CudaStream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]

    @property
    def compute(self) -> _CudaStream:
        """The calling thread's current stream on the device."""
        return _CudaStream(torch.cuda.current_stream(self._device))


def streams_for(device: torch.device, clock: Clock) -> Streams:
    """CUDA streams for a CUDA device, the CPU's immediate ones otherwise."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams(clock)

"""Time, as the engine sees it: nothing else in the package reads a clock or sleeps.

Ours. One protocol, so that the same step loop runs in real time and in a simulation.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "RealClock", "VirtualClock"]


class Clock(Protocol):
    """Seconds since the start, idle time excluded on demand."""

    def now(self) -> float:
        """Seconds since the clock was made, skipped time included."""

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass on the calling thread."""

    def skip_to(self, when: float) -> None:
        """Jump to ``when`` at once; nothing if it is past. Only while nothing runs or is in flight."""

    @property
    def skipped_s(self) -> float:
        """Seconds jumped over so far."""


class RealClock:
    """The machine's monotonic clock, plus what was skipped. ``now`` may be called from any thread."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._skipped_s = 0.0

    def now(self) -> float:
        """Seconds since the clock was made, skipped time included."""
        return time.perf_counter() - self._start + self._skipped_s

    def sleep(self, seconds: float) -> None:
        """Sleep on the calling thread; other threads run on."""
        if seconds > 0:
            time.sleep(seconds)

    def skip_to(self, when: float) -> None:
        """Jump to ``when`` at once; nothing if it is past."""
        self._skipped_s += max(0.0, when - self.now())

    @property
    def skipped_s(self) -> float:
        """Seconds jumped over so far."""
        return self._skipped_s


class VirtualClock:
    """Time that passes when somebody sleeps or skips, and not otherwise: a simulation's. One thread calls it.

    >>> clock = VirtualClock()
    >>> clock.sleep(1.5); clock.skip_to(4.0); clock.skip_to(2.0)
    >>> clock.now(), clock.skipped_s
    (4.0, 2.5)
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._skipped_s = 0.0

    def now(self) -> float:
        """Seconds slept and skipped since the clock was made."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Advance by ``seconds`` at once; nothing if they are not positive."""
        self._now_s += max(0.0, seconds)

    def sleep_until(self, when: float) -> None:
        """Advance to exactly ``when``, as time that passes and is not skipped; nothing if it is past."""
        self._now_s = max(when, self._now_s)

    def skip_to(self, when: float) -> None:
        """Advance to exactly ``when``; nothing if it is past."""
        self._skipped_s += max(0.0, when - self._now_s)
        self._now_s = max(when, self._now_s)

    @property
    def skipped_s(self) -> float:
        """Seconds jumped over so far."""
        return self._skipped_s

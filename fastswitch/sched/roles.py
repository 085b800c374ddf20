"""The four roles of a scheduler, each replaceable alone.

Ours: residency and compute are two decisions. The ranker says who deserves memory, the evictor what happens to
a victim, the packer who gets tokens this iteration, the accountant charges what was enacted.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from fastswitch.sched.view import RequestView

__all__ = [
    "Accountant",
    "EvictionWay",
    "Evictor",
    "Packer",
    "Ranker",
    "ScheduledTokens",
    "SchedulerOutput",
    "scheduled",
]


class EvictionWay(enum.Enum):
    """What happens to a victim's KV."""

    SWAP_OUT = "swap_out"
    RECOMPUTE = "recompute"


class ScheduledTokens(NamedTuple):
    """Which tokens of one request this iteration computes."""

    request_id: int
    """Whose."""
    start: int
    """Tokens whose KV is there already."""
    num_tokens: int
    """How many from there on."""


# as the class, which checks its arguments' names, in half the time
scheduled: Callable[[tuple[int, int, int]], ScheduledTokens] = partial(tuple.__new__, ScheduledTokens)


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """One iteration's compute decision, in the order of the batch."""

    scheduled: tuple[ScheduledTokens, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens in the batch."""
        return sum(entry.num_tokens for entry in self.scheduled)


class Ranker(Protocol):
    """Who deserves memory.

    A class that names this as its base need write the first two methods alone: by default ranks change when somebody
    comes or goes, and at no other time.
    """

    @abstractmethod
    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """The requests that have something to compute, best first: a list of all that are given, each once."""

    @abstractmethod
    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger``, ranked better, may push ``holder`` out. Idle holders are not asked about."""

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """request_id |-> level, for the requests whose level changes now.

        Args:
            requests: all unfinished ones if ``is_due``, else those that it was not asked about before.
            executed_iterations: so far.
        """
        return {}

    def forecast(self, requests: Sequence[RequestView], executed_iterations: int) -> list[RequestView] | None:
        """The order of these, as far as known, when so many iterations have run; None: as it is now.

        Asked where ``is_due`` says so of that iteration. What is copied ahead goes by it, so a wrong guess costs bytes,
        and no tokens.
        """
        return None

    def is_due(self, executed_iterations: int) -> bool:
        """Whether levels or order of all requests may change now: they are then asked for and ranked anew.

        Asked before each iteration, so it should cost little.
        """
        return False


class Evictor(Protocol):
    """What happens to a victim."""

    @abstractmethod
    def choose(self, victim: RequestView, host_free: int, num_waiting: int) -> EvictionWay:
        """The way out for ``victim``.

        Args:
            victim: holds device memory.
            host_free: blocks that the host can take.
            num_waiting: requests with something to compute that are neither on the device nor on their way there.
        """


class Packer(Protocol):
    """Who gets tokens this iteration."""

    @abstractmethod
    def pack(self, ready: Sequence[RequestView]) -> SchedulerOutput:
        """Tokens for the residents that hold room for them, given best first."""


class Accountant(Protocol):
    """Is told what happens to turns, and charges for service; the only place that does.

    A policy that ranks by what was served is both ranker and accountant: a `Scheduler` that is given no accountant has
    its ranker told. A class that names this as its base need write ``charge`` alone.
    """

    def arrived(self, request: RequestView) -> None:
        """A turn of ``request`` came and can be served; one that came during the turn before comes at its end."""
        return

    def admitted(self, request: RequestView, num_prompt_tokens: int) -> None:
        """Its turn holds device memory for the first time; it brought so many new tokens. Once a turn."""
        return

    def suspended(self, request: RequestView) -> None:
        """Its user holds its turn off the device: it does not wait, until it is resumed. It may end meanwhile."""
        return

    def resumed(self, request: RequestView) -> None:
        """Its turn may be served again."""
        return

    def ended(self, request: RequestView) -> None:
        """Its turn is over, finished or cancelled; one that was cancelled need not have been admitted."""
        return

    @abstractmethod
    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """``request`` was given these tokens in an iteration that ran; recomputed tokens are not among them."""

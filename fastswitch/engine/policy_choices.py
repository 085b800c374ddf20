"""Which parts of a scheduler can be asked for by name, and how each is made: the one list that all else goes by.

Ours. The command line's choices and help, the checks of options and `Policy` follow from these tables: what is added
to one of them can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, Protocol

from fastswitch.sched import (
    FCFS,
    HORIZON,
    MLFQ,
    VTC,
    CheapestSwitch,
    ChunkedPrefill,
    Evictor,
    LeastBytes,
    LowestRank,
    MarkovPriorities,
    Packer,
    PreemptiveVTC,
    PrefillFirst,
    Priorities,
    PriorityTrace,
    RandomPriorities,
    Ranker,
    Recompute,
    RecordedPriorities,
    ServiceCounters,
    SwapOut,
    SwitchCosts,
    VictimChoice,
)

__all__ = ["EVICTORS", "FAIR", "PACKERS", "PATTERNS", "RANKERS", "VICTIMS", "PackerChoice", "Profile", "RankerOptions"]


class Profile(Protocol):
    """How long the model's iterations take, as measured or computed once before all runs."""

    @property
    def decode_s(self) -> float:
        """Seconds of an iteration that gives each of a few requests a token."""

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds of one that computes a prompt of so many tokens."""


class RankerOptions(Protocol):
    """What rankers are made from; `Policy` says what each is."""

    @property
    def priority(self) -> str:
        """A pattern, or the name of the file that the levels are from."""

    @property
    def recorded(self) -> RecordedPriorities | None:
        """The levels of that file."""

    @property
    def frequency(self) -> float:
        """Updates of the levels, an iteration."""

    @property
    def seed(self) -> int:
        """Of the levels."""

    @property
    def horizon(self) -> int | None:
        """Tokens by which clients may drift apart."""

    @property
    def weights(self) -> Mapping[Hashable, float]:
        """client_id |-> how much it is entitled to."""

    @property
    def profile(self) -> Profile | None:
        """Of the model."""


class PackerChoice(NamedTuple):
    """A packer, and the tokens of its iterations where nobody says how many."""

    make: Callable[[int], Packer]
    token_budget: int


def _fcfs(_options: RankerOptions) -> Ranker:
    return FCFS()


def _priority(options: RankerOptions) -> Ranker:
    levels = options.recorded if options.recorded is not None else PATTERNS[options.priority](options.seed)
    return PriorityTrace(levels, options.frequency)


def _vtc(options: RankerOptions) -> Ranker:
    return VTC(ServiceCounters(weights=options.weights))


def _preemptive_vtc(options: RankerOptions) -> Ranker:
    return PreemptiveVTC(ServiceCounters(weights=options.weights), horizon=options.horizon or HORIZON)


def _mlfq(options: RankerOptions) -> Ranker:
    assert options.profile is not None, "whoever makes the policy profiles the model"
    return MLFQ(options.profile.prefill_s, options.profile.decode_s)


def _cheapest(costs: SwitchCosts | None) -> Evictor:
    if costs is None:
        raise ValueError("evictor 'cheapest' goes by what a switch takes: give costs")
    return CheapestSwitch(costs)


# seed |-> levels
PATTERNS: dict[str, Callable[[int], Priorities]] = {"random": RandomPriorities, "markov": MarkovPriorities}
RANKERS: dict[str, Callable[[RankerOptions], Ranker]] = {
    "fcfs": _fcfs,
    "priority": _priority,
    "vtc": _vtc,
    "vtc-preemptive": _preemptive_vtc,
    "mlfq": _mlfq,
}
FAIR = ("vtc", "vtc-preemptive")  # that rank clients
PACKERS = {
    "prefill-first": PackerChoice(PrefillFirst, 8192),
    "chunked": PackerChoice(ChunkedPrefill, 512),  # the smaller of Sarathi-Serve's two
}
EVICTORS: dict[str, Callable[[SwitchCosts | None], Evictor]] = {
    "swap-out": lambda _costs: SwapOut(),
    "recompute": lambda _costs: Recompute(),
    "cheapest": _cheapest,
}
VICTIMS: dict[str, Callable[[Ranker], VictimChoice]] = {
    "lowest-rank": lambda _ranker: LowestRank(),
    "least-bytes": lambda ranker: LeastBytes(ranker.may_preempt),
}

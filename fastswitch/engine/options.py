"""The options of ``fastswitch bench`` and ``fastswitch simulate``, checked.

A default that depends on the model, the setup or the workload is None here and is decided where these are known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastswitch.engine.option_limits import LIMITS, MOST, check_number, flag
from fastswitch.engine.policy import Policy
from fastswitch.engine.policy_choices import EVICTORS, PACKERS, PATTERNS, RANKERS, VICTIMS
from fastswitch.engine.priority_file import read_priorities
from fastswitch.engine.usage import UsageError, check_distinct
from fastswitch.sched import NUM_LEVELS

__all__ = ["BenchOptions", "ExperimentOptions", "SimulateOptions"]

DEFAULT_FREQUENCY = 0.04  # of `bench`: the paper's for the smaller of its models
SHARES = ("compute_share", "memory_share", "link_share")
CHOICES: dict[str, tuple[str, ...]] = {
    "policy": tuple(RANKERS),
    "packer": tuple(PACKERS),
    "evictor": tuple(EVICTORS),
    "victims": tuple(VICTIMS),
    "arrival": ("conversation", "turn"),
    "link": ("emulated", "none"),
    "device": ("cpu", "cuda"),
}

# output |-> how its name may end; nothing: in any way
SUFFIXES: dict[str, tuple[str, ...]] = {
    "json": (),
    "plot": (".png",),
    "trace_out": (".json", ".json.gz"),
    "timeline": (".png",),
    "decisions": (".jsonl", ".jsonl.gz"),
    "clients_plot": (".png",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOptions:
    """What both commands take, as on the command line, dashes as underscores.

    Raises:
        UsageError: a value is outside its range or unknown, in one line.
    """

    command: str
    workload: str = "synthetic"
    conversations: int | None = None
    min_turns: int | None = None
    scale: float | None = None
    arrival: Literal["conversation", "turn"] = "conversation"
    rate: float | None = None
    think: float | None = None
    time_scale: float | None = None
    policy: str = "priority"
    priority: str | None = None
    frequency: float | None = None
    aging: int | None = None
    horizon: int | None = None
    packer: str = "prefill-first"
    token_budget: int | None = None
    tbt_target: float | None = None
    evictor: str = "swap-out"
    victims: str = "lowest-rank"
    min_levels: int = 0
    min_stay: int = 0
    device_tokens: int | None = None
    host_tokens: int | None = None
    block_size: int = 16
    growth_blocks: int = 60
    call_us: float | None = None
    link_gbps: float | None = None
    runs: str | None = None
    seed: int = 0
    json: Path | None = None
    plot: Path | None = None
    trace_out: Path | None = None
    timeline: Path | None = None
    decisions: Path | None = None
    clients: str | None = None
    clients_plot: Path | None = None
    check: bool = False

    def __post_init__(self) -> None:
        for name in LIMITS:
            check_number(name, getattr(self, name, None))
        for name, known in CHOICES.items():
            value = getattr(self, name, None)
            if value is not None and value not in known:
                raise UsageError(f"{flag(name)} must be one of {', '.join(known)}, got {value!r}")
        if self.priority not in (None, *PATTERNS) and not _is_file(str(self.priority)):
            raise UsageError(f"--priority must be {', '.join(PATTERNS)}, or a file, no file is {self.priority!r}")
        for name in ("priority", "frequency"):
            if getattr(self, name) is not None and self.policy != "priority":
                raise UsageError(f"{flag(name)} is of --policy priority, got {self.policy!r}")
        if self.frequency is not None and self.frequency > 1:
            raise UsageError(f"--frequency must be at most 1 (an update at each iteration), got {self.frequency:g}")
        if self.clients == "" or (self.num_clients is not None and not 1 <= self.num_clients <= MOST):
            raise UsageError(f"--clients must be a number of at least 1, or a file, got {self.clients!r}")
        if self.tbt_target is not None and self.packer != "chunked":
            raise UsageError(f"--tbt-target cuts prompts: give --packer chunked with it, got {self.packer!r}")
        if self.tbt_target is not None and self.token_budget is not None:
            raise UsageError("--tbt-target gives the token budget: leave out --token-budget")
        if self.horizon is not None and self.policy != "vtc-preemptive":
            raise UsageError(f"--horizon is of --policy vtc-preemptive, got {self.policy!r}")
        if self.min_levels >= NUM_LEVELS:
            raise UsageError(f"--min-levels must be below {NUM_LEVELS}, the number of levels, got {self.min_levels}")
        if self.min_levels and self.policy not in ("priority", "mlfq"):
            raise UsageError(f"--min-levels needs levels: --policy {self.policy} has none, take --min-stay")
        check_distinct({name: getattr(self, name) for name in SUFFIXES}, self.inputs)
        for name, suffixes in SUFFIXES.items():
            path = getattr(self, name)
            if path is not None and suffixes and not path.name.lower().endswith(suffixes):
                raise UsageError(f"{flag(name)} must name a {' or '.join(suffixes)} file, got {path}")

    @property
    def outputs(self) -> tuple[Path | None, ...]:
        """The files to write."""
        return tuple(getattr(self, name) for name in SUFFIXES)

    @property
    def inputs(self) -> dict[str, Path]:
        """Option |-> the file that is read for it."""
        named = {name: getattr(self, name, None) for name in ("workload", "priority", "clients", "calibration")}
        return {name: Path(value) for name, value in named.items() if value is not None and _is_file(str(value))}

    @property
    def records_timelines(self) -> bool:
        """Whether what happens when is to be kept."""
        return self.trace_out is not None or self.timeline is not None

    @property
    def num_clients(self) -> int | None:
        """Clients to deal the conversations to; None where a file was given, or nothing."""
        written = self.clients or ""
        digits = written.removeprefix("-")
        return int(written) if digits.isascii() and digits.isdigit() else None

    @property
    def clients_file(self) -> Path | None:
        """A workload with clients, or a table of their weights; None where a number was given, or nothing."""
        return None if self.clients is None or self.num_clients is not None else Path(self.clients)

    def policy_with(self, frequency: float) -> Policy:
        """The policy asked for; ``frequency`` where none was. It lacks the model's profile.

        Raises:
            WorkloadError: if the file of the levels is of no use.
        """
        levels = None if self.priority is None or self.priority in PATTERNS else read_priorities(Path(self.priority))
        return Policy(
            policy=self.policy,
            priority=self.priority or next(iter(PATTERNS)),
            frequency=frequency if self.frequency is None else self.frequency,
            packer=self.packer,
            token_budget=self.token_budget or PACKERS[self.packer].token_budget,
            evictor=self.evictor,
            seed=self.seed,
            aging=self.aging,
            horizon=self.horizon,
            recorded=levels,
            victims=self.victims,
            min_levels=self.min_levels,
            min_stay=self.min_stay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(ExperimentOptions):
    """Of ``fastswitch bench``.

    Raises:
        UsageError: if an option is of no use, or does not go with another.
    """

    model: str = "tiny"
    device: str = "cpu"
    dtype: str | None = None
    random_weights: bool = False
    link: str | None = None

    def __post_init__(self) -> None:
        ExperimentOptions.__post_init__(self)
        if self.device == "cuda" and (
            self.link == "emulated" or self.call_us is not None or self.link_gbps is not None
        ):
            raise UsageError("--device cuda has a real link: leave out --link emulated, --call-us and --link-gbps")
        if self.link == "none" and (self.call_us is not None or self.link_gbps is not None):
            raise UsageError("--link none emulates no link: leave out --call-us and --link-gbps")

    @property
    def emulates_link(self) -> bool:
        """Whether copies cost what they would on a link: on a CPU, unless told otherwise."""
        return self.device == "cpu" and self.link != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions(ExperimentOptions):
    """Of ``fastswitch simulate``.

    Raises:
        UsageError: if an option is of no use, or does not go with another.
    """

    setup: str
    compute_share: float | None = None
    memory_share: float | None = None
    link_share: float | None = None
    iteration_ms: float | None = None
    decision_us: float | None = None
    calibration: Path | None = None

    def __post_init__(self) -> None:
        ExperimentOptions.__post_init__(self)
        for name in SHARES:
            if (getattr(self, name) or 0) > 1:
                raise UsageError(f"{flag(name)} is a share of a peak, at most 1, got {getattr(self, name):g}")
        given = [flag(name) for name in ("call_us", "link_gbps", "link_share") if getattr(self, name) is not None]
        if self.calibration is not None and given:
            raise UsageError(f"--calibration brings the link's costs: leave out {' and '.join(given)}")
        if self.link_gbps is not None and self.link_share is not None:
            raise UsageError("--link-gbps is what the link achieves: leave out --link-share")


def _is_file(name: str) -> bool:
    return os.path.isfile(name)  # noqa: PTH113 - a Path raises for a name that is too long

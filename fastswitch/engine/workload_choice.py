"""The workload that a command's options name, chosen and scaled, and what its clients are entitled to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastswitch.engine.options import ExperimentOptions
from fastswitch.engine.policy_choices import FAIR
from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import (
    Workload,
    deal_clients,
    read_client_weights,
    read_workload,
    select,
    synthetic_workload,
)

__all__ = ["ChosenWorkload", "choose_workload"]

MIN_TURNS = 3  # of synthetic conversations
SHOWN_CLIENTS = 8  # in an error

Weights = Mapping[int | str, float]


@dataclass(frozen=True, slots=True)
class ChosenWorkload:
    """What is served, and to whom.

    Attributes:
        workload: conversations, with their clients where there are any.
        weights: client_id |-> weight, of the clients that were given one; the others' is 1.
    """

    workload: Workload
    weights: Mapping[Hashable, float] = field(default_factory=dict)


def choose_workload(
    options: ExperimentOptions, encode: Callable[[str], list[int]], *, conversations: int, scale: float
) -> ChosenWorkload:
    """Draw or read it, then choose, scale and deal; ``conversations`` and ``scale`` are a synthetic one's defaults.

    ``--clients N`` deals the conversations to N clients, whatever was recorded. ``--clients FILE`` is the workload,
    with its clients, or a table of weights: of the clients that the workload records or, where it records none, of
    those that it is dealt to.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
    """
    path = options.clients_file
    weights = None if path is None else read_client_weights(path)
    source = options.workload if path is None or weights is not None else _only_source(path, options)
    if source == "synthetic":
        workload = _drawn(options, conversations, scale)
    else:
        recorded = read_workload(Path(source), encode=encode, seed=options.seed)
        _check_clients(recorded, path, weights)
        workload = _selected(recorded, options)
    workload = _dealt(workload, options, weights)
    if options.clients_plot is not None and not workload.records_clients:
        raise UsageError("--clients-plot needs clients: give --clients N, or a workload that records them")
    if options.policy in FAIR and not workload.records_clients:
        raise UsageError(
            f"--policy {options.policy} shares between clients: give --clients N, or a workload that records them"
        )
    return ChosenWorkload(workload, dict((weights or {}).items()))


def _only_source(path: Path, options: ExperimentOptions) -> str:
    """The clients' file, which is the workload."""
    if options.workload != "synthetic":
        raise UsageError(
            f"--clients {path} has no header client_id,weight, so it is a workload of its own: leave out --workload, "
            "or give a table of weights"
        )
    return str(path)


def _drawn(options: ExperimentOptions, conversations: int, scale: float) -> Workload:
    drawn = synthetic_workload(
        seed=options.seed,
        conversations=options.conversations or conversations,
        min_turns=options.min_turns or MIN_TURNS,
    )
    return select(drawn, scale=scale if options.scale is None else options.scale, seed=options.seed)


def _selected(recorded: Workload, options: ExperimentOptions) -> Workload:
    return select(
        recorded,
        conversations=options.conversations,
        min_turns=options.min_turns,
        scale=1.0 if options.scale is None else options.scale,
        seed=options.seed,
    )


def _dealt(workload: Workload, options: ExperimentOptions, weights: Weights | None) -> Workload:
    if options.num_clients is not None:
        return deal_clients(workload, range(options.num_clients), seed=options.seed)
    if weights is not None and not workload.records_clients:
        return deal_clients(workload, list(weights), seed=options.seed)
    return workload


def _check_clients(recorded: Workload, path: Path | None, weights: Weights | None) -> None:
    """A file that was given for its clients has some, and weights are those of clients."""
    if path is None:
        return
    if weights is None:
        if not recorded.records_clients:
            raise UsageError(f"--clients {path} records no clients: give it as --workload, with --clients N")
        return
    unknown = set(weights) - set(recorded.client_ids)
    if recorded.records_clients and unknown:
        known = ", ".join(map(str, recorded.client_ids[:SHOWN_CLIENTS]))
        more = ", ..." if len(recorded.client_ids) > SHOWN_CLIENTS else ""
        first = next(client_id for client_id in weights if client_id in unknown)
        raise UsageError(f"--clients {path} weighs client {first}, {recorded.name} has none such: it has {known}{more}")

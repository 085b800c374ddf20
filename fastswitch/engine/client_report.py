"""The clients of an experiment for a person: how evenly they were served, and what the busiest of them met with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastswitch.engine.metrics import PERCENTILES
from fastswitch.engine.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_clients"]

SHOWN = 6  # clients; the JSON has all
SWITCHES = ("swap_outs", "clean_evictions", "drops")  # each is once that a client lost the device

LEGEND = (
    "service: tokens of prompts computed + 2 x tokens generated, recomputed ones left out; in all it is what was asked "
    "for. gap: the largest difference of two clients' service, each by its weight, over any time in which both had "
    "turns waiting off the device; contended: iterations in which two or more had. Jain, of service by weight: 1 if "
    "all get the same, 1/n if one gets everything; of windows, each a thirtieth of the time in which turns arrive: "
    "among those who waited throughout. Where little is contended there is little to compare"
)


def print_clients(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    """Tables with a row a run; nothing where no clients are recorded. 80 columns suffice.

    Args:
        console: where to.
        runs: of the contract's JSON, the same clients in each.
    """
    if "clients" not in runs[0]:
        return
    _print_evenness(console, runs)
    busiest = [client["client_id"] for client in runs[0]["clients"]["by_client"][:SHOWN]]
    rows = [_clients(run, busiest) for run in runs]
    _print_demand(console, rows[0], runs[0]["clients"])
    for metric, label in (("ttft_s", "TTFT"), ("tbt_s", "TBT")):
        _print_latency(console, runs, rows, metric, label)
    cells = [[run["name"], *map(_lost, clients)] for run, clients in zip(runs, rows, strict=True)]
    print_table(console, "times that they lost the device (out + clean + drops)", _names(rows[0]), cells)
    console.print(LEGEND, highlight=False)


def _print_evenness(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for run in runs:
        clients = run["clients"]
        windows = clients["jain_backlogged"] or {"mean": None, "min": None, "n": 0}
        jain = [_or_dash(windows[name], ".3f") for name in ("mean", "min")]
        share = _share(clients["contended"])
        rows.append([run["name"], _or_dash(clients["max_gap"], ".0f"), share, *jain, str(windows["n"])])
    heads = ["gap, tokens", "contended", "Jain, mean", "Jain, least", "windows"]
    in_all = _or_dash(runs[0]["clients"]["jain"], ".3f")
    print_table(
        console, f"{len(runs[0]['clients']['by_client'])} clients; Jain of all that they asked: {in_all}", heads, rows
    )


def _print_demand(console: Console, clients: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> None:
    """The same in every run, so without one."""
    rows = [
        ["turns", *(str(client["turns"]) for client in clients)],
        ["service", *(str(client["service"]) for client in clients)],
        ["share", *(f"{client['share']:.1%}" for client in clients)],
    ]
    if any(client["weight"] != 1 for client in figures["by_client"]):
        rows.append(["weight", *(f"{client['weight']:g}" for client in clients)])
    print_table(console, f"the {len(clients)} that asked for most", _names(clients), rows, first="client")


def _print_latency(
    console: Console,
    runs: Sequence[Mapping[str, Any]],
    rows: Sequence[Sequence[Mapping[str, Any]]],
    metric: str,
    label: str,
) -> None:
    """The highest percentile of their tails that all of them have, else the maximum."""
    tails = [client[metric] for clients in rows for client in clients]
    known = [name for name in PERCENTILES[1:] if all(tail[name] is not None for tail in tails)]
    name = known[-1] if known else "max"
    cells = [
        [run["name"], *(_or_dash(client[metric][name], ".1f", 1e3) for client in clients)]
        for run, clients in zip(runs, rows, strict=True)
    ]
    print_table(console, f"their {label}, {name}, ms", _names(rows[0]), cells)


def _clients(run: Mapping[str, Any], client_ids: Sequence[Any]) -> list[Mapping[str, Any]]:
    by_id = {client["client_id"]: client for client in run["clients"]["by_client"]}
    return [by_id[client_id] for client_id in client_ids]


def _names(clients: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(client["client_id"])[:12] for client in clients]


def _lost(client: Mapping[str, Any]) -> str:
    return str(sum(client["switches"][name] for name in SWITCHES))


def _or_dash(value: float | None, form: str, factor: float = 1) -> str:
    return "-" if value is None else format(value * factor, form)


def _share(share: float | None) -> str:
    return "<1%" if share is not None and 0 < share < 0.005 else _or_dash(share, ".0%")

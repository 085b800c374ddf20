"""Clients' service over time as a picture: a column a run, who got how much above, how far apart they are below."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastswitch.engine.client_figures import MOST_CLIENTS
from fastswitch.engine.fairness import service_gaps
from fastswitch.engine.service_record import ServiceRecord

__all__ = ["plot_clients"]

NAMED = 10  # clients with a colour of their own, those with the most service; the others are grey
LINEAR = 100  # tokens of difference; more is drawn by its logarithm
COLUMN, TITLE_WIDTH = 4.2, 44  # inches, and characters, of a run


def plot_clients(
    records: Mapping[str, ServiceRecord], weights: Mapping[Hashable, float], title: str, path: Path
) -> None:
    """Write a PNG: each client's cumulative service per unit of weight, and the largest differences between two.

    Args:
        records: run name |-> what its clients got.
        weights: client_id |-> weight, where it is not 1.
        title: over the runs; says what was emulated or simulated.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(records),
        figsize=(max(2, len(records)) * COLUMN, 6.4),
        layout="constrained",
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(2, 1),
    )
    order = _by_service(next(iter(records.values())))
    for column, (name, record) in enumerate(records.items()):
        _curves(axes[0, column], record, weights, order)
        _differences(axes[1, column], record, weights)
        axes[0, column].set_title(name, fontsize=9, fontweight="bold")
        axes[1, column].set_xlabel("seconds")
    axes[0, 0].set_ylabel("service by weight, tokens")
    axes[1, 0].set_ylabel("largest difference (log)")
    if axes[1, 0].get_legend_handles_labels()[0]:
        axes[1, 0].legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
    axes[0, 0].legend(fontsize=7, title="client", title_fontsize=7, loc="upper left")
    figure.suptitle("\n".join(textwrap.wrap(title, max(2, len(records)) * TITLE_WIDTH)), fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _by_service(record: ServiceRecord) -> list[Hashable]:
    service = np.bincount(record.given[:, 1], record.amounts, len(record.client_ids))
    amounts = dict(zip(record.client_ids, service, strict=True))
    return sorted(amounts, key=lambda client_id: (-amounts[client_id], str(client_id)))


def _curves(axis: Any, record: ServiceRecord, weights: Mapping[Hashable, float], order: list[Hashable]) -> None:
    end_s = record.times_s[-1:]
    for rank, client_id in enumerate(order):
        if client_id not in record.client_ids:
            continue
        times_s, service = record.curve(record.client_ids.index(client_id))
        seconds, amounts = np.concatenate([[0.0], times_s, end_s]), np.concatenate([[0], service, service[-1:]])
        named = rank < NAMED
        style: dict[str, Any] = {"color": "0.75", "zorder": 2}
        if named:
            style = {"color": f"C{rank}", "label": str(client_id), "zorder": 3}
        axis.step(
            seconds, amounts / weights.get(client_id, 1.0), where="post", linewidth=1.4 if named else 0.8, **style
        )
    axis.grid(visible=True, alpha=0.25)


def _differences(axis: Any, record: ServiceRecord, weights: Mapping[Hashable, float]) -> None:
    """Of all that any two got so far, and of what two got since both wait; not of more clients than are looked at."""
    if len(record.client_ids) > MOST_CLIENTS:
        axis.text(0.5, 0.5, f"not looked for above {MOST_CLIENTS} clients", ha="center", transform=axis.transAxes)
        return
    weight = np.array([weights.get(client_id, 1.0) for client_id in record.client_ids])
    service = record.service() / weight
    style: dict[str, Any] = {"where": "post", "linewidth": 1.2}
    axis.step(record.times_s, np.ptp(np.cumsum(service, axis=0), axis=1), color="0.6", label="of any two", **style)
    gaps = service_gaps(service, record.backlogged())
    axis.step(record.times_s, gaps, color="black", label="of two while both wait", **style)
    axis.set_yscale("symlog", linthresh=LINEAR)
    axis.grid(visible=True, alpha=0.25)

"""What clients are entitled to: a table of weights, told from a workload by its header.

Source: weighted VTC (Sheng et al., OSDI 2024): a client with twice the weight is due twice the service.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from fastswitch.engine.workloads.fields import csv_client, csv_positive
from fastswitch.engine.workloads.lines import numbered_lines

__all__ = ["read_client_weights"]

HEADER = ["client_id", "weight"]


def read_client_weights(path: str | PathLike[str]) -> dict[int | str, float] | None:
    """Read ``client_id,weight`` rows, plain or gzip; None if the file's first line is another.

    Returns:
        client_id |-> weight, in the file's order.

    Raises:
        WorkloadError: if the file cannot be read, or a row is not a client that was not named before and a number.
    """
    lines = numbered_lines(Path(path))
    header = next(lines, None)
    if header is None or _fields(header.text) != HEADER:
        return None
    weights: dict[int | str, float] = {}
    for place, text in lines:
        fields = _fields(text)
        if len(fields) != len(HEADER):
            raise place.error(f"must have the {len(HEADER)} fields {', '.join(HEADER)}, got {len(fields)}")
        client_id = csv_client(place, fields[0])
        if client_id in weights:
            raise place.error(f"each client must have one weight, got a second one of {client_id!r}")
        weights[client_id] = csv_positive(place, "weight", fields[1])
    if not weights:
        raise header.place.error("a row must follow the header, got none")
    return weights


def _fields(text: str) -> list[str]:
    return [field.strip() for field in text.split(",")]

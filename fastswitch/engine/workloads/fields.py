"""One field of a record: what it must be, and the error that says so.

Lengths of 0 are accepted and count as 1 when the turn is built: a user's message may be empty, a turn may not.
"""

from __future__ import annotations

import math

from fastswitch.engine.workloads.conversation import MAX_TOKENS
from fastswitch.engine.workloads.lines import Place

__all__ = [
    "csv_client",
    "csv_length",
    "csv_positive",
    "csv_seconds",
    "json_length",
    "json_seconds",
    "json_text",
    "shown",
]

_MAX_TIME = 10**15  # 31 million years in seconds; more is a broken file, and sums of it would lose their digits
_LEAST, _MOST = 1e-6, 1e6  # of factors; what is beyond is a slip, and quotients of it would lose their digits
_SHOWN_CHARS = 120  # of a wrong value in an error, so that the error stays a line


def shown(value: object) -> str:
    """Return ``value`` as Python would write it, on one line, cut to `_SHOWN_CHARS` characters."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def json_length(place: Place, name: str, value: object) -> int:
    """Return ``value``, a length in tokens; errors name ``name``.

    Raises:
        WorkloadError: if it is not an integer of 0 to `MAX_TOKENS`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise place.error(f"{name} must be an integer of 0 to {MAX_TOKENS}, got {shown(value)}")
    return value


def json_seconds(place: Place, name: str, value: object) -> float:
    """Return ``value``, a time in the source's unit; errors name ``name``.

    Raises:
        WorkloadError: if it is not a number of 0 to `_MAX_TIME`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_time(value):
        raise place.error(f"{name} must be a number of 0 to {_MAX_TIME:.0e}, got {shown(value)}")
    return float(value)


def json_text(place: Place, name: str, value: object) -> str:
    """Return ``value``, a message; errors name ``name``.

    Raises:
        WorkloadError: if it is not text, or holds half of a surrogate pair (which no encoder takes).
    """
    if not isinstance(value, str):
        raise place.error(f"{name} must be text, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise place.error(f"{name} must be Unicode text, got a lone surrogate at character {error.start + 1}") from None
    return value


def csv_client(place: Place, field: str) -> int | str:
    """Return the client that a CSV field names: a number where it is one in plain digits.

    Raises:
        WorkloadError: if it is empty.
    """
    name = field.strip()
    if not name:
        raise place.error("client_id must name a client, got nothing")
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 18 else name


def csv_length(place: Place, name: str, field: str) -> int:
    """Return the length in tokens that a CSV field states; errors name ``name``.

    Raises:
        WorkloadError: if it is not an integer of 0 to `MAX_TOKENS`, in plain digits.
    """
    digits = field.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(MAX_TOKENS)) or int(digits) > MAX_TOKENS:
        raise place.error(f"{name} must be an integer of 0 to {MAX_TOKENS}, got {shown(field)}")
    return int(digits)


def csv_seconds(place: Place, name: str, field: str) -> float:
    """Return the time in seconds that a CSV field states; errors name ``name``.

    Raises:
        WorkloadError: if it is not a number of 0 to `_MAX_TIME`.
    """
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not _is_time(value):
        raise place.error(f"{name} must be a number of 0 to {_MAX_TIME:.0e}, got {shown(field)}")
    return value


def csv_positive(place: Place, name: str, field: str) -> float:
    """Return the number above 0 that a CSV field states; errors name ``name``.

    Raises:
        WorkloadError: if it is not a number of `_LEAST` to `_MOST`.
    """
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not _LEAST <= value <= _MOST:
        raise place.error(f"{name} must be a number of {_LEAST:g} to {_MOST:g}, got {shown(field)}")
    return value


def _is_time(value: float) -> bool:
    return 0 <= value <= _MAX_TIME

"""The ranges of the numbers among the options, and the one line that refuses what is outside."""

from __future__ import annotations

import math

from fastswitch.engine.usage import UsageError

__all__ = ["LIMITS", "MOST", "check_number", "flag"]

MOST = 10**9  # what is beyond is a slip, and its products would overflow
# option |-> (smallest value, whether that value itself is allowed); None is always allowed
LIMITS: dict[str, tuple[float, bool]] = {
    "conversations": (1, True),
    "min_turns": (1, True),
    "scale": (0, False),
    "rate": (0, False),
    "think": (0, True),
    "time_scale": (0, False),
    "frequency": (0, False),
    "token_budget": (1, True),
    "tbt_target": (0, False),
    "device_tokens": (1, True),
    "host_tokens": (1, True),
    "block_size": (1, True),
    "growth_blocks": (1, True),
    "call_us": (0, True),
    "link_gbps": (0, False),
    "seed": (0, True),
    "aging": (1, True),
    "horizon": (1, True),
    "min_levels": (0, True),
    "min_stay": (0, True),
    "compute_share": (0, False),
    "memory_share": (0, False),
    "link_share": (0, False),
    "iteration_ms": (0, True),
    "decision_us": (0, True),
}


def flag(name: str) -> str:
    """The option's name on the command line."""
    return "--" + name.replace("_", "-")


def check_number(name: str, value: float | None) -> None:
    """Refuse a number outside the limits of its option; None is always allowed.

    Raises:
        UsageError: in one line.
    """
    least, inclusive = LIMITS[name]
    if value is None:
        return
    if not math.isfinite(value) or value < least or value > MOST or (value == least and not inclusive):
        bound = f"of at least {least:g}" if inclusive else f"above {least:g}"
        raise UsageError(f"{flag(name)} must be a number {bound} and at most {MOST:g}, got {value:g}")

"""Random streams that depend on what they are for, never on what was drawn before.

Two runs that are compared must see the same workload, so no draw may depend on the order in which an engine asks.
Each use has a stream of its own, named by a purpose and by the indices it serves.
Ours: numpy's ``SeedSequence`` with the purpose and the indices as its spawn key.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["Purpose", "stream"]


class Purpose(IntEnum):
    """What a stream is for; the number is part of its seed, so it never changes."""

    TOKENS = 0
    LENGTHS = 1
    SELECTION = 2
    ARRIVAL = 3
    THINK = 4
    CLIENTS = 5


def stream(seed: int, purpose: Purpose, *indices: int) -> np.random.Generator:
    """Return a fresh generator for ``(seed, purpose, indices)``; equal arguments give equal draws.

    Raises:
        WorkloadError: if ``seed`` is not an integer of at least 0.

    >>> first, again = stream(7, Purpose.THINK, 3), stream(7, Purpose.THINK, 3)
    >>> bool(first.random() == again.random())
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise WorkloadError(f"seed must be an integer of at least 0, got {seed!r}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(purpose), *indices)))

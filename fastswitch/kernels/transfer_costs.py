"""What each way of copying costs on a machine, and which is the cheapest for a job: arithmetic on measured numbers.

Paper: none of this. Other engines fix the choice in their source (a kernel below 28 KiB a piece, say).
Ours:  a job of n equal runs takes ``job + n * run(bytes)``: what it costs however little it moves, and what a run of
       that size takes. ``run`` is measured at a few sizes and read off between them on logarithmic scales, so it
       follows whatever the machine does (an H100 copies 24 KiB pieces slower than 28 KiB ones); below the smallest size
       a run costs what the smallest does, above the largest it grows with its bytes. And a way whose kernels take
       multiprocessors from the model must be cheaper by a tenth than one that leaves the bytes to the copy engines.
Invariants:
1. Every cost is positive and finite; a table that is not cannot be built.
2. The choice depends on the table alone: the same table gives the same way.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["DIRECTIONS", "KERNEL_GAIN", "KERNEL_WAYS", "CopyDirection", "TransferCosts", "WayCost"]

CopyDirection = Literal["device_to_host", "host_to_device"]
DIRECTIONS: tuple[CopyDirection, CopyDirection] = ("device_to_host", "host_to_device")
KERNEL_WAYS = frozenset({"zero_copy", "staged"})
KERNEL_GAIN = 1.1  # how many times as long the best other way must take at least


@dataclass(frozen=True, slots=True)
class WayCost:
    """What one way costs in one direction.

    >>> cost = WayCost(job_s=10e-6, run_bytes=(4096, 65536), run_s=(1e-6, 4e-6))
    >>> f"{cost.seconds(10, 4096):.1e} {cost.seconds(10, 16384):.1e} {cost.seconds(1, 131072):.1e}"
    '2.0e-05 3.0e-05 1.8e-05'

    Args:
        job_s: seconds that a job takes besides its runs.
        run_bytes: sizes at which a run was measured, rising.
        run_s: seconds that a run of each size takes.

    Raises:
        ValueError: if the sizes do not rise, a number is not positive and finite, or the lengths differ.
    """

    job_s: float
    run_bytes: tuple[int, ...]
    run_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.run_bytes or len(self.run_bytes) != len(self.run_s):
            raise ValueError(f"a cost needs a time a size, got {len(self.run_bytes)} sizes, {len(self.run_s)} times")
        if not all(math.isfinite(s) and s > 0 for s in (*self.run_s, *self.run_bytes)) or not self.job_s >= 0:
            raise ValueError(f"costs must be positive and finite, got job_s {self.job_s}, run_s {self.run_s}")
        if list(self.run_bytes) != sorted(set(self.run_bytes)) or not math.isfinite(self.job_s):
            raise ValueError(f"run_bytes must rise, got {self.run_bytes}")

    def seconds(self, num_runs: int, bytes_per_run: float) -> float:
        """Seconds that a job of ``num_runs`` runs of ``bytes_per_run`` bytes takes."""
        return self.job_s + num_runs * self._run_s(bytes_per_run)

    @property
    def call_s(self) -> float:
        """Seconds that the smallest run takes: what a copy costs besides its bytes."""
        return self.run_s[0]

    @property
    def bytes_per_s(self) -> float:
        """Bytes a second of the largest run."""
        return self.run_bytes[-1] / self.run_s[-1]

    def _run_s(self, num_bytes: float) -> float:
        sizes, times = self.run_bytes, self.run_s
        if num_bytes <= sizes[0]:
            return times[0]
        if num_bytes >= sizes[-1]:
            return times[-1] * num_bytes / sizes[-1]
        above = bisect.bisect_right(sizes, num_bytes)
        part = math.log(num_bytes / sizes[above - 1]) / math.log(sizes[above] / sizes[above - 1])
        return times[above - 1] * math.pow(times[above] / times[above - 1], part)


@dataclass(frozen=True, slots=True)
class TransferCosts:
    """A machine's costs.

    Attributes:
        machine: what they hold for: device, driver and versions, by name.
        ways: direction |-> way |-> its cost. Of ``staged`` a run is what is contiguous on the host.
    """

    machine: Mapping[str, str]
    ways: Mapping[CopyDirection, Mapping[str, WayCost]]

    def seconds(
        self,
        way: str,
        direction: CopyDirection,
        num_runs: int,
        bytes_per_run: float,
        *,
        num_host_runs: int | None = None,
    ) -> float:
        """Seconds that a job takes by one way; arguments and errors as `cheapest`."""
        self._check(direction, num_runs, bytes_per_run, num_host_runs, (way,))
        runs = num_runs if way != "staged" or num_host_runs is None else num_host_runs
        return self.ways[direction][way].seconds(runs, bytes_per_run * num_runs / runs)

    def cheapest(
        self,
        direction: CopyDirection,
        num_runs: int,
        bytes_per_run: float,
        *,
        num_host_runs: int | None = None,
        ways: Iterable[str] | None = None,
    ) -> str:
        """The way that takes the least time for a job; of equal ones the first in the table.

        Those that run kernels (`KERNEL_WAYS`) count as if they took a tenth longer: what they take from the model
        meanwhile is not in the table.

        Args:
            direction: where the bytes go.
            num_runs: contiguous copies that the job falls into: runs, times the planes of a layer-major pool.
            bytes_per_run: mean bytes of one.
            num_host_runs: as ``num_runs``, but of what is contiguous on the host; None: no more is known.
            ways: those to choose from; None: all of the table.

        Raises:
            ValueError: if the direction or a way is not in the table, or a number is not positive.
        """
        among = tuple(self.ways.get(direction, ())) if ways is None else tuple(ways)
        self._check(direction, num_runs, bytes_per_run, num_host_runs, among)
        return min(
            (way for way in self.ways[direction] if way in among),
            key=lambda way: (
                self.seconds(way, direction, num_runs, bytes_per_run, num_host_runs=num_host_runs)
                * (KERNEL_GAIN if way in KERNEL_WAYS else 1.0)
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data, that `from_json` reads."""
        return {
            "machine": dict(self.machine),
            "ways": {
                direction: {
                    way: {"job_s": cost.job_s, "run_bytes": list(cost.run_bytes), "run_s": list(cost.run_s)}
                    for way, cost in ways.items()
                }
                for direction, ways in self.ways.items()
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> TransferCosts:
        """Read what `as_json` gave.

        Raises:
            ValueError: if it is anything else.
        """
        try:
            machine = {str(name): str(value) for name, value in data["machine"].items()}
            ways = {
                direction: {
                    str(way): WayCost(float(cost["job_s"]), tuple(map(int, cost["run_bytes"])), tuple(cost["run_s"]))
                    for way, cost in data["ways"][direction].items()
                }
                for direction in DIRECTIONS
            }
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a table of costs: {error!r}") from error
        if not all(ways.values()):
            raise ValueError("not a table of costs: a direction has no way")
        return cls(machine, ways)

    def _check(
        self,
        direction: CopyDirection,
        num_runs: int,
        bytes_per_run: float,
        num_host_runs: int | None,
        among: tuple[str, ...],
    ) -> None:
        if direction not in self.ways:
            raise ValueError(f"direction must be one of {', '.join(self.ways)}, got {direction!r}")
        unknown = [way for way in among if way not in self.ways[direction]]
        if unknown or not among:
            known = ", ".join(self.ways[direction])
            raise ValueError(f"ways must be among those measured ({known}), got {', '.join(unknown) or 'none'}")
        if num_runs < 1 or not bytes_per_run > 0:
            raise ValueError(f"a job has at least one run of one byte, got {num_runs} runs of {bytes_per_run} bytes")
        if num_host_runs is not None and num_host_runs < 1:
            raise ValueError(f"num_host_runs must be at least 1, got {num_host_runs}")

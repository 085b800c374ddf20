"""What a switch takes on this machine: measured before the run, and corrected by what the run sees.

Ours. The measurement is of one size and one way; what copies and prompts really take depends on how a request's blocks
lie and on what shares the iteration. So each of the three prices has a factor, a running average of observed over
expected seconds. A way that is never taken is never corrected: its price stays as measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastswitch.memory import SwapDirection
from fastswitch.sched import SwitchCosts

__all__ = ["MeasuredCosts", "RunningCosts"]

SMOOTHING = 0.2  # weight of the newest observation


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Seconds as measured, or by formulas; satisfies ``sched.SwitchCosts``.

    Attributes:
        copy_out, copy_in: seconds to copy so many blocks of one request.
        prefill: seconds to compute so many tokens of one request.
    """

    copy_out: Callable[[int], float]
    copy_in: Callable[[int], float]
    prefill: Callable[[int], float]

    def out_s(self, num_blocks: int) -> float:
        """To copy so many blocks to the host."""
        return self.copy_out(num_blocks)

    def in_s(self, num_blocks: int) -> float:
        """To bring so many blocks back."""
        return self.copy_in(num_blocks)

    def recompute_s(self, num_tokens: int) -> float:
        """To compute so many tokens again."""
        return self.prefill(num_tokens)


class RunningCosts:
    """Expected seconds, each price times what was observed over what was expected; satisfies ``sched.SwitchCosts``.

    Args:
        expected: before anything was observed.

    >>> costs = RunningCosts(MeasuredCosts(lambda n: 0.001 * n, lambda n: 0.001 * n, lambda n: 0.0001 * n))
    >>> costs.observe_copy(SwapDirection.SWAP_IN, num_blocks=10, seconds=0.020)
    >>> costs.in_s(5), costs.out_s(5)
    (0.01, 0.005)
    """

    def __init__(self, expected: SwitchCosts) -> None:
        self._expected = expected
        self._copy_factor: dict[SwapDirection, float | None] = dict.fromkeys(SwapDirection)
        self._prefill_factor: float | None = None

    def observe_copy(self, direction: SwapDirection, num_blocks: int, seconds: float) -> None:
        """A job's copies took ``seconds``, the time in the queue left out."""
        if num_blocks:
            expected_s = self._copy_s(direction, num_blocks)
            self._copy_factor[direction] = _averaged(self._copy_factor[direction], seconds, expected_s)

    def observe_prompt(self, num_tokens: int, seconds: float) -> None:
        """An iteration that computed ``num_tokens`` tokens of one prompt, from its start, and no other took so long."""
        self._prefill_factor = _averaged(self._prefill_factor, seconds, self._expected.recompute_s(num_tokens))

    def out_s(self, num_blocks: int) -> float:
        """To copy so many blocks to the host."""
        return self._copy_s(SwapDirection.SWAP_OUT, num_blocks) * _factor(self._copy_factor[SwapDirection.SWAP_OUT])

    def in_s(self, num_blocks: int) -> float:
        """To bring so many blocks back."""
        return self._copy_s(SwapDirection.SWAP_IN, num_blocks) * _factor(self._copy_factor[SwapDirection.SWAP_IN])

    def recompute_s(self, num_tokens: int) -> float:
        """To compute so many tokens again."""
        return self._expected.recompute_s(num_tokens) * _factor(self._prefill_factor)

    def _copy_s(self, direction: SwapDirection, num_blocks: int) -> float:
        out = direction is SwapDirection.SWAP_OUT
        return self._expected.out_s(num_blocks) if out else self._expected.in_s(num_blocks)


def _factor(average: float | None) -> float:
    return 1.0 if average is None else average


def _averaged(average: float | None, seconds: float, expected_s: float) -> float | None:
    """The running average with one more observation; what is expected to take nothing says nothing."""
    if not expected_s > 0:
        return average
    newest = seconds / expected_s
    return newest if average is None else average + SMOOTHING * (newest - average)

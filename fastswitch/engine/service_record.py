"""What each client was given, iteration by iteration, and who was waiting meanwhile: a run's record, read-only.

Source: VTC (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024). The service of a client is its
prompt tokens that were computed plus `OUTPUT_WEIGHT` times its tokens that were generated; a token that is computed
again after its KV was lost is not among them. A client is backlogged while it has a request in the queue.
Ours: a step is the unit of time. A client is backlogged in an iteration if a turn of its is off the device while the
iteration runs, and not held off by its user: one that was pushed out waits like one that has not come in yet, which in
VTC's engine is the only way to wait. Two clients' service is compared per unit of weight.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INPUT_WEIGHT", "OUTPUT_WEIGHT", "ServiceRecord"]

INPUT_WEIGHT, OUTPUT_WEIGHT = 1, 2  # of a token; VTC's


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """The service of one run.

    Attributes:
        client_ids: everybody who sent a turn, in order of the first.
        times_s: when each iteration ended, in seconds since recording began, ``[num_iterations]`` float64.
        given: rows (iteration, position of the client, prompt tokens, generated tokens), ``[n, 4]`` int64, in order.
        queue: rows (iteration, position of the client, whether it is backlogged from here on), ``[m, 3]`` int64, in
            order; nobody is at first.
    """

    client_ids: tuple[Hashable, ...]
    times_s: NDArray[np.float64]
    given: NDArray[np.int64]
    queue: NDArray[np.int64]

    @property
    def amounts(self) -> NDArray[np.int64]:
        """The service of each row of ``given``, in weighted tokens, ``[n]``."""
        amounts: NDArray[np.int64] = self.given[:, 2] * INPUT_WEIGHT + self.given[:, 3] * OUTPUT_WEIGHT
        return amounts

    def tokens(self) -> NDArray[np.int64]:
        """Prompt tokens and generated tokens by client, ``[num_clients, 2]``."""
        result = np.zeros((len(self.client_ids), 2), np.int64)
        np.add.at(result, self.given[:, 1], self.given[:, 2:])
        return result

    def service(self) -> NDArray[np.int64]:
        """Service in each iteration, ``[num_iterations, num_clients]``."""
        result = np.zeros((len(self.times_s), len(self.client_ids)), np.int64)
        np.add.at(result, (self.given[:, 0], self.given[:, 1]), self.amounts)
        return result

    def backlogged(self) -> NDArray[np.bool_]:
        """Whether a client is backlogged in an iteration, ``[num_iterations, num_clients]``."""
        result = np.zeros((len(self.times_s), len(self.client_ids)), np.bool_)
        for iteration, client, waits in self.queue.tolist():
            result[iteration:, client] = waits
        return result

    def curve(self, client: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """When the service of the client at a position grew, and to how much: ``[k]`` seconds, ``[k]`` tokens."""
        rows = self.given[:, 1] == client
        return self.times_s[self.given[rows, 0]], np.cumsum(self.amounts[rows])

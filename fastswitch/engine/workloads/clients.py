"""Who asks: conversations dealt to clients of unequal demand, where the source does not record it.

Ours. The first client has a share of the conversations as 1, the second as 1/2, the k-th as 1/k (Zipf's law), and
each at least one; which ones is drawn. So a few ask for most, as in the traces that record clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastswitch.engine.workloads.conversation import Workload
from fastswitch.engine.workloads.draws import Purpose, stream
from fastswitch.engine.workloads.errors import WorkloadError

__all__ = ["deal_clients"]


def deal_clients(workload: Workload, client_ids: Sequence[int | str], *, seed: int = 0) -> Workload:
    """Return the workload with a client for each conversation, whatever it recorded before.

    Args:
        workload: left as it is.
        client_ids: who asks, the most demanding first; all different.
        seed: of the draw.

    Raises:
        WorkloadError: if there are no clients, or more than conversations.

    >>> from fastswitch.engine.workloads import synthetic_workload
    >>> dealt = deal_clients(synthetic_workload(conversations=24), ["a", "b", "c"], seed=1)
    >>> [sum(each.client_id == client_id for each in dealt.conversations) for client_id in dealt.client_ids]
    [13, 7, 4]
    """
    if not 1 <= len(client_ids) <= len(workload):
        raise WorkloadError(
            f"clients must be 1 to {len(workload)}, a conversation each at least, got {len(client_ids)}; ask for fewer"
            " clients or more conversations"
        )
    shares = 1 / np.arange(1, len(client_ids) + 1)
    # rounded up, so that nobody has more than the first
    upto = np.ceil(np.cumsum(shares) / shares.sum() * (len(workload) - len(client_ids)) - 1e-9).astype(np.int64)
    owners = np.repeat(np.arange(len(client_ids)), 1 + np.diff(upto, prepend=0))
    drawn = stream(seed, Purpose.CLIENTS).permutation(owners).tolist()
    dealt = (
        replace(each, client_id=client_ids[owner]) for each, owner in zip(workload.conversations, drawn, strict=True)
    )
    return replace(workload, conversations=tuple(dealt))

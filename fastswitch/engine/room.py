"""The manager's blocks, and the link's time, as a scheduler asks for them.

Ours. Each kind is counted when it is asked for: what swap-outs can have on the host, which takes a look at every copy
there, only when somebody is evicted.
"""

from __future__ import annotations

from fastswitch.engine.switcher import Switcher
from fastswitch.memory import SwapDirection

__all__ = ["RoomNow"]


class RoomNow:
    """What can be had at the moment; satisfies ``sched.Room``."""

    __slots__ = ("_kv", "_switcher")

    def __init__(self, switcher: Switcher) -> None:
        self._switcher = switcher
        self._kv = switcher.kv

    @property
    def free(self) -> int:
        """Device blocks that nobody holds."""
        return self._kv.num_free

    @property
    def clean(self) -> int:
        """Device blocks of evicted requests that the host has in full."""
        return self._kv.num_clean

    @property
    def vacating(self) -> int:
        """Device blocks that become clean when the swap-outs under way land."""
        return self._kv.num_vacating

    @property
    def host_free(self) -> int:
        """Host blocks that swap-outs can have."""
        return self._kv.num_host_free

    @property
    def copy_in(self) -> int | None:
        """Blocks that swap-ins may begin to copy."""
        return self._switcher.num_blocks_to_begin(SwapDirection.SWAP_IN)

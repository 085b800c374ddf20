"""What an operator needs to know of the two tiers: what each block is good for, and how scattered the copies are.

Ours. Every block of a tier is free, held, clean, in flight or quarantined, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fastswitch.memory.segment import Segment
from fastswitch.memory.statistics import PoolOverTime, PoolStatistics
from fastswitch.memory.tier import Tier

if TYPE_CHECKING:
    from fastswitch.memory.manager import KVCacheManager  # which imports this module

__all__ = ["GivenUp", "KVOverTime", "KVStatistics", "TierStatistics", "count_kinds"]

KINDS = ("held", "clean", "in_flight", "quarantined", "shared")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Host blocks whose copy was given up so far because others needed the room.

    Attributes:
        redundant: the device had the bytes too.
        idle: of conversations between two turns; computed again if another turn comes.
        tails: of requests that wait to go on; computed again.
    """

    redundant: int = 0
    idle: int = 0
    tails: int = 0


@dataclass(frozen=True, slots=True)
class TierStatistics:
    """One tier at one moment; ``pool`` counts by segment, and a request has one segment if nothing was forked.

    Attributes:
        pool: groups, free runs and fragmentation.
        held: blocks that stay as long as their request wants them.
        clean: blocks that go when somebody needs the room: on the device of evicted requests that the host has in full,
            on the host what may be given up there.
        in_flight: blocks of segments that a copy under way reads or writes.
        quarantined: the same of a copy that hangs.
        shared: blocks, of whatever kind, that several requests read.
    """

    pool: PoolStatistics
    held: int
    clean: int
    in_flight: int
    quarantined: int
    shared: int

    def as_json(self) -> dict[str, int | float]:
        """The figures by name, those of ``pool`` among them."""
        return {**self.pool.as_json(), **{kind: getattr(self, kind) for kind in KINDS}}


@dataclass(frozen=True, slots=True)
class KVStatistics:
    """Both tiers at one moment.

    Attributes:
        device, host: the tiers.
        given_up: since the manager was made.
    """

    device: TierStatistics
    host: TierStatistics
    given_up: GivenUp

    def as_json(self) -> dict[str, dict[str, int | float]]:
        """A tier's figures by its name, and what was given up on the host."""
        return {"device": self.device.as_json(), "host": self.host.as_json(), "given_up": asdict(self.given_up)}


def count_kinds(tier: Tier, segments: Collection[Segment], num_clean: int) -> dict[str, int]:
    """Blocks of each kind that the segments of a tier, all of them given, hold; ``num_clean`` of them may go."""
    blocks = [(segment, tier.num_blocks(segment.segment_id)) for segment in segments]
    moving = [(segment.quarantined, num_blocks) for segment, num_blocks in blocks if segment.job is not None]
    quarantined = sum(num_blocks for hangs, num_blocks in moving if hangs)
    in_flight = sum(num_blocks for hangs, num_blocks in moving if not hangs)
    held = sum(num_blocks for _, num_blocks in blocks) - num_clean - in_flight - quarantined
    shared = sum(num_blocks for segment, num_blocks in blocks if len(segment.holders) > 1)
    return dict(zip(KINDS, (held, num_clean, in_flight, quarantined, shared), strict=True))


class KVOverTime:
    """Running figures of both tiers, sampled after each step of an engine.

    >>> from fastswitch.memory import BlockGroupAllocator, KVCacheManager
    >>> kv, over_time = KVCacheManager(BlockGroupAllocator(8), BlockGroupAllocator(8), block_size=4), KVOverTime()
    >>> kv.add("a"); kv.grow("a", 10)
    >>> over_time.sample(kv)
    >>> over_time.as_json()["device"]["num_owned_max"], over_time.as_json()["device"]["held_max"]
    (3, 3)

    Args:
        every: how often groups and kinds of blocks are counted; fragmentation a quarter as often. Blocks owned are
            looked at in each sample, in O(1).

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, *, every: int = 16) -> None:
        self._every = every
        self._pools = {
            tier: PoolOverTime(groups_every=every, fragmentation_every=4 * every) for tier in ("device", "host")
        }
        self._most = {tier: dict.fromkeys(KINDS, 0) for tier in self._pools}

    def sample(self, kv: KVCacheManager) -> None:
        """Count in what both tiers look like now. Always given the same manager; that is not checked."""
        count_kinds = self._pools["device"].num_samples % self._every == 0
        for name, tier in (("device", kv.device), ("host", kv.host)):
            self._pools[name].sample(tier.allocator)
            if count_kinds:
                most, now = self._most[name], kv.count_blocks(tier)
                self._most[name] = {kind: max(most[kind], now[kind]) for kind in KINDS}

    def as_json(self) -> dict[str, dict[str, int | float]]:
        """A tier's figures by its name: those of `PoolOverTime`, and the most blocks of each kind that were seen."""
        return {
            name: {**pool.as_json(), **{f"{kind}_max": self._most[name][kind] for kind in KINDS}}
            for name, pool in self._pools.items()
        }

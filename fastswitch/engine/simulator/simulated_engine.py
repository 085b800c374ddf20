"""An engine of your own scheduler on hardware that is not here, in one call.

Ours. `SimulatedBed` does the same for the command line's runs and options.
"""

from __future__ import annotations

from fastswitch.engine.clock import VirtualClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.simulator.copy_costs import LinkCosts
from fastswitch.engine.simulator.roofline import RooflineExecutor
from fastswitch.engine.simulator.setup import Assumptions, find_setup
from fastswitch.engine.simulator.virtual_swaps import VirtualSwaps
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.sched import Scheduler

__all__ = ["simulated_engine"]


def simulated_engine(
    setup: str,
    scheduler: Scheduler,
    *,
    device_tokens: int | None = None,
    host_tokens: int | None = None,
    block_size: int = 16,
    way: str = "per_run",
    assumed: Assumptions | None = None,
) -> Engine:
    """Make an engine with block groups, all layers of a block together, and copies that overlap or are waited for.

    >>> from fastswitch.sched import FCFS, PrefillFirst, SwapOut
    >>> engine = simulated_engine("llama8b-a10", Scheduler(FCFS(), PrefillFirst(), SwapOut()))
    >>> request = engine.submit(range(500), 20)
    >>> while engine.step():
    ...     pass
    >>> len(engine.turn(request).token_times)
    20

    Args:
        setup: model and hardware, such as ``llama8b-a10``.
        scheduler: who gets memory and who gets tokens.
        device_tokens: of the device's pool, a part of a block left out; None: the setup's.
        host_tokens: of the host's pool; None: the setup's.
        block_size: tokens in a block.
        way: how copies are issued: a key of ``fastswitch.kernels.TRANSFERS``, or ``chosen``.
        assumed: what data sheets do not say.

    Raises:
        UsageError: if the setup is unknown.
        ValueError: if a number is of no use, or the way is unknown.
    """
    found, clock = find_setup(setup), VirtualClock()
    assumptions = assumed or Assumptions()
    layout = found.model.kv_layout(block_size=block_size)
    device, host = (
        BlockGroupAllocator((usual if given is None else given) // block_size)
        for given, usual in ((device_tokens, found.device_tokens), (host_tokens, found.host_tokens))
    )
    return Engine(
        RooflineExecutor(found.roofline(assumptions), clock, max_context=found.model.max_positions),
        scheduler,
        KVCacheManager(device, host, block_size),
        VirtualSwaps(clock, LinkCosts(found.link(assumptions), layout, way), layout.block_bytes),
        clock=clock,
    )

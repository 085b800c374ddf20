"""An engine over a model of integers: everything real but the model, and fast enough to be driven at random."""

from __future__ import annotations

from fastswitch.engine import Engine
from fastswitch.engine.checks import PoisoningAllocator
from fastswitch.memory import BlockGroupAllocator, KVCacheManager
from fastswitch.sched import PrefillFirst, PriorityTrace, RandomPriorities, Scheduler, SwapOut
from tests.engine.doubles import FakeClock, HeldSwaps, StampExecutor, answer, stamp_pools

MAX_STEPS = 20_000  # an engine that has not ended after these never will


def make_engine(
    *,
    device_blocks=8,
    host_blocks=64,
    block_size=2,
    order="block_major",
    allocator=BlockGroupAllocator,
    swaps=HeldSwaps,
    reuse=True,
    evictor=None,
    victims=None,
    with_ranker=lambda ranker: ranker,
    costs=None,
    packer=None,
    frequency=None,
    clock=None,
    adaptive=None,
    max_context=512,
    max_switches=64,
    copies_ahead=False,
    ranker=None,
    accountant=None,
):
    """An engine with poisoned pools.

    ``frequency`` None keeps the levels that are submitted, if no ranker is given; ``with_ranker`` wraps the ranker,
    ``victims`` is given it.
    """
    device_pool, host_pool = stamp_pools(device_blocks, host_blocks, block_size, order)
    clock = clock or FakeClock()
    executor = StampExecutor(device_pool, max_context=max_context, clock=clock, iteration_s=1.0)
    device = PoisoningAllocator(allocator(device_blocks), device_pool)
    host = PoisoningAllocator(allocator(host_blocks), host_pool)
    kv = KVCacheManager(device, host, block_size, reuse=reuse)
    device.spare(kv.still_read)
    ranker = with_ranker(ranker or PriorityTrace(RandomPriorities(0) if frequency else None, frequency or 1.0))
    roles = ranker, packer or PrefillFirst(), evictor or SwapOut(), accountant
    scheduler = Scheduler(*roles, victims=victims and victims(ranker), max_switches=max_switches)
    swaps = swaps(device_pool, host_pool)
    engine = Engine(
        executor, scheduler, kv, swaps, clock=clock, adaptive=adaptive, copies_ahead=copies_ahead, costs=costs
    )
    engine.accountant = scheduler.accountant
    engine.executor = executor
    return engine


def finish(engine, after_step=lambda: None):
    """Run until nobody wants anything and nothing is in flight."""
    for _ in range(MAX_STEPS):
        ran = engine.step()
        after_step()
        wanting = any(request.turn is not None and not request.suspended for request in engine.requests)
        if not ran and not wanting and not engine.num_in_flight:
            return
        if not ran:
            engine.wait_for_work()
    raise AssertionError(f"the engine has not come to an end after {MAX_STEPS} steps")


def check_answers(turns):
    """The turns of one conversation, in order, have the tokens of an engine that never switches."""
    history = []
    for turn in turns:
        history += turn.prompt
        expected = answer(history, turn.max_new_tokens)
        assert turn.generated == expected[: len(turn.generated)]
        history += turn.generated

"""Work side by side, a process a core, that ends with whoever asked for it.

Ours. Processes are spawned, so that they share nothing; they ignore Ctrl-C, since the process that started them ends
them and says why in one line.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.context import SpawnContext
from typing import Any, TypeVar

__all__ = ["CONTEXT", "num_cores", "side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

CONTEXT: SpawnContext = multiprocessing.get_context("spawn")
POLL_S = 0.2


def num_cores() -> int:
    """Processes that are worth having."""
    return os.cpu_count() or 1


def side_by_side(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    on_poll: Callable[[], object] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Each item with what ``work`` made of it, as they come; on any exception what still runs is ended.

    Args:
        work: of a module's top level, as is ``initializer``; called in the processes.
        items: handed out in order.
        initializer, initargs: called once in each process.
        on_poll: called here a few times a second.
    """
    workers = ProcessPoolExecutor(min(num_cores(), len(items)), CONTEXT, initializer=initializer, initargs=initargs)
    try:
        asked = _submit_all(workers, work, items)
        left = set(asked)
        while left:
            done, left = wait(left, POLL_S, FIRST_COMPLETED)
            if on_poll is not None:
                on_poll()
            for future in done:
                yield asked[future], future.result()
    except BaseException:
        _stop(workers)
        raise
    workers.shutdown()


def _submit_all(
    workers: ProcessPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item]
) -> dict[Future[Result], Item]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process that is spawned inherits it
    try:
        return {workers.submit(work, item): item for item in items}
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(workers: ProcessPoolExecutor) -> None:
    """End what still runs, since nobody wants it any more; returns when it has ended."""
    for process in list((workers._processes or {}).values()):  # noqa: SLF001  # what 3.14 calls `kill_workers`
        process.terminate()
    workers.shutdown(cancel_futures=True)
